/** All texts of the pages of films and recordings, in English and Chinese. */

import { translator } from "../players/language.js";

const EN = {
  "page.channel": "To the channel",
  "page.download": "Download as MP4",
  "page.video": "Video",
  "page.player": "Player",
  "page.chapters": "Chapters",
  "state.denied": "Not allowed",
  "state.lost": "The video cannot be loaded",
  "state.codec": "This browser cannot play the video",
  "state.missing": "No such video",
  "detail.denied": "This address is not valid for the video, or it has expired.",
  "detail.lost": "Check the connection, then try again.",
  "detail.codec": "Try another browser, or a media player such as VLC.",
  "detail.missing": "There is no such video, or it is not ready yet.",
  "do.play": "Play",
  "do.retry": "Try again",
  "chapter.play": "Play from {at}",
  "share.title": "Share this video",
  "key.space": "Space",
  "key.play": "play or pause",
  "key.seek": "5 s back or forward",
  "key.sound": "sound",
  "key.full": "full screen",
};

/** @typedef {keyof typeof EN} Word */

/** @type {Record<Word, string>} */
const ZH = {
  "page.channel": "前往频道",
  "page.download": "下载 MP4",
  "page.video": "视频",
  "page.player": "播放器",
  "page.chapters": "章节",
  "state.denied": "无权观看",
  "state.lost": "无法加载视频",
  "state.codec": "此浏览器无法播放该视频",
  "state.missing": "没有这个视频",
  "detail.denied": "该地址无效或已过期。",
  "detail.lost": "请检查网络，然后重试。",
  "detail.codec": "请换一个浏览器，或使用 VLC 等播放器。",
  "detail.missing": "没有这个视频，或者它尚未准备好。",
  "do.play": "播放",
  "do.retry": "重试",
  "chapter.play": "从 {at} 播放",
  "share.title": "分享该视频",
  "key.space": "空格",
  "key.play": "播放或暂停",
  "key.seek": "后退或前进 5 秒",
  "key.sound": "声音",
  "key.full": "全屏",
};

export const TABLES = { en: EN, zh: ZH };

export const t = translator(TABLES);
