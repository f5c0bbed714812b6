/** The texts of the report of a show, in English and Chinese. */

import { filled } from "../players/language.js";

/** @typedef {import("../players/language.js").Language} Language */

const EN = {
  "report.before": "Compared with “{title}”, {date}",
  "report.captions": "Captions",
  "report.clips": "Clips",
  "report.cues": "Ad cues",
  "report.curve": "Viewers over time",
  "report.delay": "Delay, p50 · p95",
  "report.duration": "Duration",
  "report.failed": "Outputs that failed",
  "report.faults": "Faults of the stream",
  "report.good": "Nothing was wrong with this show.",
  "report.gone": "This link is wrong, or it is no longer valid. Ask the person who sent it.",
  "report.incomplete": "There were more events than this report lists.",
  "report.late": "The report cannot be read now. Try again later.",
  "report.live": "Live",
  "report.loading": "Loading the report …",
  "report.many": "This address has read too many reports. Try again in a minute.",
  "report.mean": "Viewers, mean",
  "report.paused": "Times without a publisher",
  "report.peak": "Viewers, peak",
  "report.peak.at": "at {time}",
  "report.players": "Players",
  "report.print": "Print",
  "report.protocol": "Protocol",
  "report.quality": "Quality of experience",
  "report.quality.none": "No player has reported what its viewer experienced.",
  "report.quality.text": "As players report it. 95 of 100 viewers have p95 or better.",
  "report.recorded": "Recordings",
  "report.refused": "Refused pushes",
  "report.resolution": "Picture, p50",
  "report.sent": "Sent to viewers",
  "report.stalls": "Stalls",
  "report.start": "Start, p50 · p95",
  "report.title": "Report",
  "report.to.end": "to the end",
  "report.viewers": "Viewers by protocol",
  "report.viewers.none": "Nobody has watched.",
  "report.watched": "Watch time",
};

/** @typedef {keyof typeof EN} Word */

/** @type {Record<Language, Record<Word, string>>} */
const TABLES = {
  en: EN,
  zh: {
    "report.before": "与“{title}”（{date}）相比",
    "report.captions": "字幕",
    "report.clips": "剪辑",
    "report.cues": "广告标记",
    "report.curve": "观众人数变化",
    "report.delay": "延迟，p50 · p95",
    "report.duration": "时长",
    "report.failed": "失败的输出",
    "report.faults": "流的故障",
    "report.good": "本场直播没有出现问题。",
    "report.gone": "此链接有误或已失效。请联系发送链接的人。",
    "report.incomplete": "事件过多，本报告未全部列出。",
    "report.late": "现在无法读取报告，请稍后再试。",
    "report.live": "直播中",
    "report.loading": "正在加载报告……",
    "report.many": "此地址读取报告过于频繁，请一分钟后再试。",
    "report.mean": "平均观众",
    "report.paused": "没有推流的时段",
    "report.peak": "最高观众",
    "report.peak.at": "{time}",
    "report.players": "播放器",
    "report.print": "打印",
    "report.protocol": "协议",
    "report.quality": "观看体验",
    "report.quality.none": "没有播放器报告观看体验。",
    "report.quality.text": "数据来自播放器。100 位观众中有 95 位达到或优于 p95。",
    "report.recorded": "录制",
    "report.refused": "被拒绝的推流",
    "report.resolution": "画面，p50",
    "report.sent": "发送给观众",
    "report.stalls": "卡顿",
    "report.start": "起播，p50 · p95",
    "report.title": "报告",
    "report.to.end": "直到结束",
    "report.viewers": "各协议的观众",
    "report.viewers.none": "没有人观看。",
    "report.watched": "观看时长",
  },
};

/**
 * @param {Language} language
 * @returns {(word: Word, fill?: Record<string, string | number>) => string}
 */
export const speaking = (language) => (word, fill = {}) => filled(TABLES[language][word], fill, language);
