/** The keys of a player page. */

/** @typedef {import("./view.js").View} View */

/** The key in small letters, by its place on layouts without Latin ones. @param {KeyboardEvent} event */
export const keyOf = ({ key, code }) => (key > "~" && code.startsWith("Key") ? code.slice(3) : key).toLowerCase();

/**
 * @param {KeyboardEvent} event
 * @param {View} view
 * @param {() => void} toLive
 */
export function pressed(event, view, toLive) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const target = event.target;
  // A focused control handles most keys itself.
  const busy = target instanceof Element && target.closest("button, a, input, select, dialog") !== null;
  if (target instanceof Element && target.closest("dialog, textarea, input[type=text], input[type=password]")) return;
  switch (keyOf(event)) {
    case " ":
    case "k":
      if (busy && event.key === " ") return;
      view.toggle();
      break;
    case "m":
      view.muteOrNot();
      break;
    case "f":
      void view.controls.toggleFull();
      break;
    case "c":
      view.captions.toggle();
      break;
    case "p":
      void view.controls.togglePip();
      break;
    case "arrowup":
    case "arrowdown":
      if (target !== view.video) return; // elsewhere these keys scroll
      view.controls.louder(event.key === "ArrowUp" ? 0.05 : -0.05);
      break;
    case "l":
      toLive();
      break;
    default:
      return;
  }
  event.preventDefault();
}
