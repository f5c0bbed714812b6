/** Finds the page's elements and fills its pickers. */

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
 * Sets the choices of a picker and selects one; the first if `value` is not among them.
 * @param {HTMLSelectElement} picker
 * @param {[string, string][]} choices  value and text
 * @param {string} value
 */
export function fillPicker(picker, choices, value) {
  const options = choices.map(([one, words]) => new Option(words, one, false, one === value));
  const same = options.length === picker.options.length
    && options.every((option, i) => option.value === picker.options[i]?.value && option.text === picker.options[i]?.text);
  if (!same) picker.replaceChildren(...options); // new options would close an open picker
  picker.value = choices.some(([one]) => one === value) ? value : choices[0]?.[0] ?? "";
}

/** @param {string} id @param {string} text  the page is only changed if the text is new */
export function say(id, text) {
  const place = html(id);
  if (place.textContent !== text) place.textContent = text;
}

/**
 * Shows a button as pressed or not. name: the action of a press, as accessible name and tooltip.
 * @param {HTMLButtonElement} toggle
 * @param {boolean} pressed
 * @param {string} name
 */
export function press(toggle, pressed, name) {
  toggle.setAttribute("aria-pressed", String(pressed));
  toggle.setAttribute("aria-label", name);
  toggle.title = name;
}
