/** The texts of the report of a show, in English and Chinese. */

import { filled } from "../players/language.js";

/** @typedef {import("../players/language.js").Language} Language */

const EN = {
  "cue.in": "a break ends",
  "cue.other": "cue",
  "cue.out": "a break begins",
  "kind.clip": "clip",
  "kind.motion": "motion clip",
  "kind.ondemand": "on-demand session",
  "kind.video": "video",
  "page.embed": "Embedded",
  "page.other": "Others",
  "page.watch": "Watch page",
  "refused.expired": "the key had expired",
  "refused.full": "the server took no more publishers",
  "refused.hook": "the auth hook refused it",
  "refused.in_use": "another encoder used the channel",
  "refused.missing": "the key was missing",
  "refused.revoked": "the key was replaced by a newer one",
  "refused.unusable": "nothing of it could be used",
  "refused.wrong": "the key was wrong",
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
  "report.page": "Page",
  "report.pages": "Players by page",
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
    "cue.in": "广告结束",
    "cue.other": "标记",
    "cue.out": "广告开始",
    "kind.clip": "剪辑",
    "kind.motion": "移动侦测片段",
    "kind.ondemand": "点播会话",
    "kind.video": "视频",
    "page.embed": "嵌入页面",
    "page.other": "其他",
    "page.watch": "观看页",
    "refused.expired": "密钥已过期",
    "refused.full": "服务器不再接受推流",
    "refused.hook": "鉴权钩子拒绝",
    "refused.in_use": "频道正被其他编码器使用",
    "refused.missing": "缺少密钥",
    "refused.revoked": "密钥已被更新的密钥替换",
    "refused.unusable": "没有可用内容",
    "refused.wrong": "密钥错误",
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
    "report.page": "页面",
    "report.pages": "各页面的播放器",
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

/** The faults of a stream by their codes. In English, the report has the gateway's sentences. @type {Record<string, string>} */
const FAULTS = {
  arrivals_early: "媒体到达过快", arrivals_late: "媒体到达过慢", audio_missing: "没有声音", audio_silent: "声音静音", av_drift: "音画不同步",
  b_frames: "含有 B 帧",
  bitrate_high: "码率过高", bitrate_unsteady: "码率不稳定", captions_late: "语音字幕滞后", clock_wrong: "时钟错误", fps_low: "帧率过低", gop_long: "关键帧间隔过长",
  hevc: "视频为 HEVC", input_lost: "主输入中断", key_expires: "推流密钥即将过期", link_down: "链路中断", link_latency_low: "链路延迟设置过低",
  link_loss: "链路丢包", media_damaged: "媒体损坏", open_gop: "使用了开放 GOP", output_failing: "输出失败", picture_black: "黑屏", picture_frozen: "画面静止",
  pictures_unreadable: "画面无法解码", pixel_format: "像素格式不兼容", srt_port: "SRT 端口无法打开", stream_left_out: "有无法使用的轨道",
  timestamps_jump: "时间戳跳变", video_missing: "没有画面",
};

/**
 * @param {{code: string, text: string}} fault
 * @param {Language} language
 * @returns {string}
 */
export const faultName = ({ code, text }, language) => (language === "zh" && FAULTS[code]) || text || code.replaceAll("_", " ");

/**
 * Returns the text of a name that the gateway has sent.
 * @param {"cue" | "kind" | "page" | "refused"} kind
 * @param {string} name
 * @param {Language} language
 * @returns {string}
 */
export function named(kind, name, language) {
  /** @type {Record<string, string>} */
  const table = TABLES[language];
  return table[`${kind}.${name}`] ?? name;
}

/**
 * @param {Language} language
 * @returns {(word: Word, fill?: Record<string, string | number>) => string}
 */
export const speaking = (language) => (word, fill = {}) => filled(TABLES[language][word], fill, language);
