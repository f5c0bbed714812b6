/** Exports all components. Each is described in its file in kit/. */

export { classes, html, uniqueId } from "./html.js";
export { Button, IconButton, IconLink, LinkButton } from "./kit/button.js";
export { CopyButton, CopyField, copyText } from "./kit/copy.js";
export { Field, Select, Switch } from "./kit/field.js";
export { Icon } from "./kit/icon.js";
export { Card, Facts, PageHead, Tabs } from "./kit/layout.js";
export { Menu } from "./kit/menu.js";
export { Radios } from "./kit/radios.js";
export { Badge, Chip, Empty, Notice, Skeleton, Spinner } from "./kit/status.js";
export { sorted, Table } from "./kit/table.js";
