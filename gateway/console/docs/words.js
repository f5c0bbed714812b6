/** The texts around the API's description, in English and Chinese. */

import { translator } from "../players/language.js";

const EN = {
  "title": "Millrace API",
  "console": "Console",
  "file": "openapi.json",
  "file.why": "The API description for generators and other tools",
  "language.other": "中文",
  "loading": "Loading the description …",
  "ask.title": "Sign in",
  "ask.words": "Only people with access can read the description. Sign in to the console, or enter a token: the admin token or a token of your identity provider.",
  "ask.token": "Bearer token",
  "ask.show": "Show the API",
  "ask.console": "Sign in to the console",
  "ask.wrong": "The token was not accepted.",
  "ask.often": "Too many wrong tokens from your address. Try again in {seconds} s.",
  "who.session": "The forms on this page use your console session.",
  "who.token": "The forms on this page use your token. It is kept only in this page.",
  "side": "Operations",
  "filter": "Find an operation",
  "none": "No operation matches.",
  "operation.open": "public",
  "operation.parameters": "Parameters",
  "operation.body": "Body",
  "operation.answers": "Answers",
  "operation.fields": "Fields of {name}",
  "operation.required": "required",
  "operation.more": "Other fields are stored unchanged.",
  "in.path": "in the path",
  "in.query": "in the query",
  "trial.title": "Try it",
  "trial.send": "Send {method}",
  "trial.json": "The body is not JSON: {why}",
  "trial.curl": "The same request in a terminal",
  "trial.picture": "The picture in the answer",
  "away": "The gateway does not answer ({why}).",
  "retry": "Try again",
};

/** @typedef {keyof typeof EN} Word */

/** @type {Record<Word, string>} */
const ZH = {
  "title": "Millrace API",
  "console": "控制台",
  "file": "openapi.json",
  "file.why": "供代码生成器等工具使用的接口描述",
  "language.other": "English",
  "loading": "正在读取接口描述……",
  "ask.title": "请登录",
  "ask.words": "接口文档仅供有权限的人查看。请登录控制台，或提供令牌：管理员令牌，或身份提供方签发的令牌。",
  "ask.token": "Bearer 令牌",
  "ask.show": "查看 API",
  "ask.console": "登录控制台",
  "ask.wrong": "该令牌未被接受。",
  "ask.often": "您的地址错误次数过多，请在 {seconds} 秒后重试。",
  "who.session": "此页的表单使用您的控制台会话。",
  "who.token": "此页的表单使用您提供的令牌，令牌只保存在本页面中。",
  "side": "接口列表",
  "filter": "查找接口",
  "none": "没有匹配的接口。",
  "operation.open": "公开",
  "operation.parameters": "参数",
  "operation.body": "请求体",
  "operation.answers": "响应",
  "operation.fields": "{name} 的字段",
  "operation.required": "必填",
  "operation.more": "其他字段会原样保存。",
  "in.path": "路径参数",
  "in.query": "查询参数",
  "trial.title": "试一试",
  "trial.send": "发送 {method}",
  "trial.json": "请求体不是 JSON：{why}",
  "trial.curl": "在终端中执行同样的操作",
  "trial.picture": "作为响应返回的图片",
  "away": "网关没有应答（{why}）。",
  "retry": "重试",
};

export const TABLES = { en: EN, zh: ZH };

export const t = translator(TABLES);
