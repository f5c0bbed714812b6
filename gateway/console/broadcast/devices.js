/** Opens camera, microphone and screen. */

export const SIZES = /** @type {const} */ ({ "360p": [640, 360], "480p": [854, 480], "720p": [1280, 720], "1080p": [1920, 1080] });

/** @typedef {keyof typeof SIZES} Size */

/** The side of a phone's camera, if no device was chosen. @typedef {"user" | "environment"} Facing */

/** Whether this browser gives this page access to cameras. It does not for pages over plain http. */
export const offersDevices = () => isSecureContext && navigator.mediaDevices !== undefined;

/**
 * The wanted camera. device: "" for any.
 * @typedef {{device: string, facing: Facing, size: Size, frameRate: number}} CameraWish
 */

/** processing: of the browser, for voices; not useful for music. @typedef {{device: string, processing: boolean}} MicrophoneWish */

/** @param {CameraWish} wish @param {boolean} exact @returns {MediaTrackConstraints} */
function camera({ device, facing, size, frameRate }, exact) {
  const [width, height] = SIZES[size];
  const which = !exact ? {} : device ? { deviceId: { exact: device } } : { facingMode: facing };
  return { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: frameRate }, ...which };
}

/** @param {MicrophoneWish} wish @param {boolean} exact @returns {MediaTrackConstraints} */
function microphone({ device, processing }, exact) {
  const which = exact && device ? { deviceId: { exact: device } } : {};
  return { echoCancellation: processing, noiseSuppression: processing, autoGainControl: processing, ...which };
}

/** @param {CameraWish} wish @returns {Promise<MediaStream>} */
export const openCamera = (wish) =>
  orAny((exact) => navigator.mediaDevices.getUserMedia({ video: camera(wish, exact) }), wish.device !== "");

/** @param {MicrophoneWish} wish @returns {Promise<MediaStream>} */
export const openMicrophone = (wish) =>
  orAny((exact) => navigator.mediaDevices.getUserMedia({ audio: microphone(wish, exact) }), wish.device !== "");

/**
 * Opens both with one permission prompt.
 * @param {CameraWish} seeing
 * @param {MicrophoneWish} hearing
 * @returns {Promise<{camera: MediaStream, microphone: MediaStream}>}
 */
export async function openBoth(seeing, hearing) {
  const stream = await orAny(
    (exact) => navigator.mediaDevices.getUserMedia({ video: camera(seeing, exact), audio: microphone(hearing, exact) }),
    seeing.device !== "" || hearing.device !== "",
  );
  return { camera: new MediaStream(stream.getVideoTracks()), microphone: new MediaStream(stream.getAudioTracks()) };
}

/**
 * Opens a screen, a window or a tab, with its sound if the browser and the user allow it.
 * @param {number} frameRate
 * @returns {Promise<MediaStream>}
 */
export function openScreen(frameRate) {
  return navigator.mediaDevices.getDisplayMedia({
    video: { frameRate: { ideal: frameRate } },
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
}

export const offersScreens = () => offersDevices() && "getDisplayMedia" in navigator.mediaDevices;

/**
 * @param {MediaDeviceKind} kind
 * @returns {Promise<MediaDeviceInfo[]>} those with an id; without permission devices have no id
 */
export async function list(kind) {
  if (!offersDevices()) return [];
  return (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === kind && device.deviceId !== "");
}

/**
 * Returns whether the page may open this without a prompt.
 * @param {"camera" | "microphone"} what
 */
export async function isGranted(what) {
  try {
    const name = /** @type {PermissionName} */ (what);
    return (await navigator.permissions.query({ name })).state === "granted";
  } catch {
    return false; // this browser does not support the query
  }
}

/** @param {MediaStream | null} stream */
export function stop(stream) { for (const track of stream?.getTracks() ?? []) track.stop(); }

/**
 * Opens the chosen device, or any other if it is not connected.
 * @param {(exact: boolean) => Promise<MediaStream>} open
 * @param {boolean} chosen  whether a device was chosen
 */
async function orAny(open, chosen) {
  try {
    return await open(true);
  } catch (error) {
    const gone = error instanceof DOMException && ["OverconstrainedError", "NotFoundError"].includes(error.name);
    if (chosen && gone) return open(false);
    throw error;
  }
}
