/** The texts of changed settings in events. One key per line; both languages have the same keys. */

/** @type {import("../i18n.js").Tables} */
export default {
  en: {
    "event.author.ofToken": "the token {name}",
    "event.change.changed": "changed",
    "event.change.created": "added",
    "event.change.deleted": "deleted",
    "event.change.restored": "restored",
    "event.field.password": "password",
    "event.field.role": "role",
    "event.field.secondFactor": "second factor",
    "event.settings.alarms": "Alarms",
    "event.settings.channel": "Channel {name}",
    "event.settings.domains": "Domains",
    "event.settings.site": "Appearance",
    "event.settings.token": "Token {name}",
    "event.settings.user": "User {name}",
  },
  zh: {
    "event.author.ofToken": "令牌 {name}",
    "event.change.changed": "已更改",
    "event.change.created": "已添加",
    "event.change.deleted": "已删除",
    "event.change.restored": "已恢复",
    "event.field.password": "密码",
    "event.field.role": "角色",
    "event.field.secondFactor": "第二因素",
    "event.settings.alarms": "告警",
    "event.settings.channel": "频道 {name}",
    "event.settings.domains": "域名",
    "event.settings.site": "外观",
    "event.settings.token": "令牌 {name}",
    "event.settings.user": "用户 {name}",
  },
};
