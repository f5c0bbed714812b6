/** One idea: finding the page's own elements, and filling its pickers. */

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no #${id}`);
  return found;
}

export const button = (/** @type {string} */ id) => element(id, HTMLButtonElement);
export const select = (/** @type {string} */ id) => element(id, HTMLSelectElement);
export const input = (/** @type {string} */ id) => element(id, HTMLInputElement);
export const html = (/** @type {string} */ id) => element(id, HTMLElement);

/**
 * Puts choices into a picker, and chooses one; a value that is none of them chooses the first.
 * @param {HTMLSelectElement} picker
 * @param {[string, string][]} choices  value and words
 * @param {string} value
 */
export function fillPicker(picker, choices, value) {
  const options = choices.map(([one, words]) => new Option(words, one, false, one === value));
  const same = options.length === picker.options.length
    && options.every((option, i) => option.value === picker.options[i]?.value && option.text === picker.options[i]?.text);
  if (!same) picker.replaceChildren(...options); // an open picker would close
  picker.value = choices.some(([one]) => one === value) ? value : choices[0]?.[0] ?? "";
}

/** @param {string} id @param {string} text  without touching the page where it says so already */
export function say(id, text) {
  const place = html(id);
  if (place.textContent !== text) place.textContent = text;
}

/**
 * Shown as pressed or not, with what a press would do as its name and tip.
 * @param {HTMLButtonElement} toggle
 * @param {boolean} pressed
 * @param {string} name
 */
export function press(toggle, pressed, name) {
  toggle.setAttribute("aria-pressed", String(pressed));
  toggle.setAttribute("aria-label", name);
  toggle.title = name;
}
