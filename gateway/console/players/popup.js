/** A menu over the picture that a button of the bar opens. */

/**
 * Connects them. A click beside the open menu only closes it, and so does Escape.
 * @param {HTMLElement} stage
 * @param {HTMLButtonElement} opener
 * @param {HTMLElement} menu  with an id; it is appended to the stage
 */
export function popup(stage, opener, menu) {
  const open = (/** @type {boolean} */ is) => {
    menu.hidden = !is;
    opener.setAttribute("aria-expanded", String(is));
  };
  opener.setAttribute("aria-controls", menu.id);
  stage.append(menu);
  open(false);
  opener.addEventListener("click", () => open(Boolean(menu.hidden)));
  let closes = false;
  stage.addEventListener("pointerdown", (event) => {
    const target = /** @type {Element} */ (event.target);
    closes = !menu.hidden && target.localName === "video";
    if (!menu.contains(target) && !opener.contains(target)) open(false);
  });
  stage.addEventListener("click", (event) => {
    if (closes) event.stopPropagation();
    closes = false;
  }, { capture: true });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    open(false);
    opener.focus();
  });
}
