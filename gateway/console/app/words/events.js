/** The texts of the events view. One key per line; both languages have the same keys. */

/** @type {import("../i18n.js").Tables} */
export default {
  en: {
    "events.all": "All",
    "events.channel": "Channel",
    "events.more": "Show older events",
    "events.none": "No events",
    "events.noneText": "Nothing of this kind has happened in the last days.",
    "events.other": "Other events",
    "events.show": "Show",
    "events.text": "What happened to channels, pushes, outputs and jobs at all nodes, the newest first.",
    "events.type": "Kind",
  },
  zh: {
    "events.all": "全部",
    "events.channel": "频道",
    "events.more": "显示更早的事件",
    "events.none": "没有事件",
    "events.noneText": "最近几天没有发生此类事件。",
    "events.other": "其他事件",
    "events.show": "直播",
    "events.text": "所有节点上频道、推流、输出和任务的事件，最新的在前。",
    "events.type": "类型",
  },
};
