/** The texts of the page of a show. One key per line; both languages have the same keys. */

/** @type {import("../i18n.js").Tables} */
export default {
  en: {
    "show.channel": "Channel",
    "show.link": "Link to the report",
    "show.print": "Print",
    "show.recording": "Watch the recording",
    "show.share": "Share",
    "show.shared": "Everybody with this link can read this report until {date}, and nothing else. A new stream key of the channel ends it earlier.",
    "show.title": "Report of the show",
  },
  zh: {
    "show.channel": "频道",
    "show.link": "报告链接",
    "show.print": "打印",
    "show.recording": "观看录制",
    "show.share": "分享",
    "show.shared": "任何拥有此链接的人在 {date} 之前都能阅读本报告，但看不到其他内容。频道更换推流密钥后链接提前失效。",
    "show.title": "直播报告",
  },
};
