/** Relays the channel to Amazon IVS or another service, with parameters that are kept for the user. */

import { api } from "../players/api.js";
import { element, fillPicker, html, input, select } from "./elements.js";
import { speak } from "../players/language.js";
import { t } from "./words.js";

/** @typedef {{channelType: string, rtmpURL: string, streamKey: string, playURL: string}} Parameters */

const TYPES = /** @type {const} */ (["IVS", "EML", "CUSTOM"]);

/** Only on the console's page, because a stream key gives no access to the channel's settings. */
export class Relay {
  #id; #keeper;
  /** @type {Parameters} */
  #parameters;
  /** @type {() => string} */
  #words = () => "";

  /**
   * @param {import("./target.js").Target} target
   * @param {import("./settings.js").Keeper} keeper
   * @param {import("./settings.js").Profile} profile
   */
  constructor(target, keeper, profile) {
    this.#id = target.id;
    this.#keeper = keeper;
    this.#parameters = { channelType: "IVS", rtmpURL: "", streamKey: "", playURL: "", ...profile["ivs"] };
    html("relay-card").hidden = false;
    input("relay-on").checked = String(target.item["isRelay"]) === "true";
    input("relay-url").value = this.#parameters.rtmpURL;
    input("relay-key").value = this.#parameters.streamKey;
    input("relay-play").value = this.#parameters.playURL;
    element("relay", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#save();
    });
    input("relay-play").addEventListener("input", () => this.#link());
    speak(() => {
      fillPicker(select("relay-type"), TYPES.map((type) => [type, t(`relay.type.${type}`)]),
        select("relay-type").value || this.#parameters.channelType);
      html("relay-state").textContent = this.#words();
    });
    this.#link();
  }

  /** Loads and shows the state of the relay of a live broadcast. */
  async look() {
    if (!html("relay-card").hasAttribute("open")) return;
    const session = await api.get(`/videostream/${this.#id}/session`).catch(() => null);
    const relay = session?.outputs.find((/** @type {{name: string}} */ output) => output.name === "relay");
    if (!relay) return;
    if (!relay.enabled) this.#say(() => t("relay.state.off"));
    else if (relay.error) this.#say(() => t("relay.state.failed", { reason: relay.error }));
    else this.#say(() => t(relay.state === "running" ? "relay.state.running" : "relay.state.waiting"));
  }

  async #save() {
    const on = input("relay-on").checked;
    /** @type {Parameters} */
    const parameters = {
      channelType: select("relay-type").value, rtmpURL: input("relay-url").value.trim(),
      streamKey: input("relay-key").value.trim(), playURL: input("relay-play").value.trim(),
    };
    if ((on || parameters.rtmpURL) && !/^rtmps?:\/\/[^/\s]+/.test(parameters.rtmpURL)) {
      input("relay-url").focus();
      return this.#say(() => t("relay.url.wrong"));
    }
    try {
      const relayURL = target(parameters);
      // The relay of a live stream follows the channel's flag at once.
      await api.put(`/videostream/${encodeURIComponent(this.#id)}/relay`, { isRelay: on, ...(relayURL ? { relayURL } : {}) });
      await this.#keeper.save({ ivs: parameters });
      this.#say(() => t("relay.saved"));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#say(() => t("relay.failed", { reason }));
    }
  }

  #link() {
    const link = element("relay-watch", HTMLAnchorElement);
    const url = input("relay-play").value.trim();
    link.hidden = !/^https?:\/\//.test(url);
    if (!link.hidden) link.href = url;
  }

  /** @param {() => string} words */
  #say(words) {
    this.#words = words;
    html("relay-state").textContent = words();
  }
}

/** @param {Parameters} parameters @returns {string} the complete address for encoders */
function target({ rtmpURL, streamKey }) {
  if (!rtmpURL) return "";
  return streamKey ? `${rtmpURL.replace(/\/+$/, "")}/${streamKey.replace(/^\/+/, "")}` : rtmpURL;
}
