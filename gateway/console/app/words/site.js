/** The texts of the look of the pages. One key per line; both languages have the same keys. */

/** @type {import("../i18n.js").Tables} */
export default {
  en: {
    "site.about": "What viewers see on the home page and on the watch pages.",
    "site.color": "Accent colour",
    "site.color.hint": "Buttons and links. It is made lighter or darker where texts would be hard to read.",
    "site.logo": "Logo",
    "site.logo.hint": "PNG, JPEG or WebP. It stands at the top of the pages, at most 512 pixels wide.",
    "site.name": "Title",
    "site.name.hint": "On the home page, and in link previews.",
    "site.save": "Save",
    "site.saved": "The pages show it within ten seconds.",
    "site.text": "Text",
    "site.text.hint": "Plain text for the home page. Web addresses become links.",
    "site.texts": "Title, colour and text",
    "site.title": "Appearance",
  },
  zh: {
    "site.about": "观众在首页和观看页看到的内容。",
    "site.color": "主题色",
    "site.color.hint": "用于按钮和链接。若文字难以阅读，颜色会自动调亮或调暗。",
    "site.logo": "标志",
    "site.logo.hint": "PNG、JPEG 或 WebP，显示在页面顶部，最宽 512 像素。",
    "site.name": "标题",
    "site.name.hint": "显示在首页和链接预览中。",
    "site.save": "保存",
    "site.saved": "页面会在十秒内更新。",
    "site.text": "文字",
    "site.text.hint": "首页上的纯文本。网址会变成链接。",
    "site.texts": "标题、颜色和文字",
    "site.title": "外观",
  },
};
