/** One idea: asking the browser for camera, microphone and screen. */

export const SIZES = /** @type {const} */ ({ "360p": [640, 360], "480p": [854, 480], "720p": [1280, 720], "1080p": [1920, 1080] });

/** @typedef {keyof typeof SIZES} Size */

/** Cameras by the side of a telephone they look from, where no device was chosen. @typedef {"user" | "environment"} Facing */

/** Does this browser hand out cameras to this page at all? It does not to pages that came over plain http. */
export const offersDevices = () => isSecureContext && navigator.mediaDevices !== undefined;

/**
 * What is wanted of a camera; device: "" for any.
 * @typedef {{device: string, facing: Facing, size: Size, frameRate: number}} CameraWish
 */

/** processing: of a voice; music wants none. @typedef {{device: string, processing: boolean}} MicrophoneWish */

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
 * Both with one question to the person.
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
 * A screen, a window or a tab, with its sound where the browser and the person allow it.
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
 * @returns {Promise<MediaDeviceInfo[]>} those with an id: before permission is given there are only nameless ones
 */
export async function list(kind) {
  if (!offersDevices()) return [];
  return (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === kind && device.deviceId !== "");
}

/**
 * May the page open this without asking?
 * @param {"camera" | "microphone"} what
 */
export async function isGranted(what) {
  try {
    const name = /** @type {PermissionName} */ (what);
    return (await navigator.permissions.query({ name })).state === "granted";
  } catch {
    return false; // this browser does not say
  }
}

/** @param {MediaStream | null} stream */
export function stop(stream) { for (const track of stream?.getTracks() ?? []) track.stop(); }

/**
 * A device that was chosen last week may be at another desk: any other will do then.
 * @param {(exact: boolean) => Promise<MediaStream>} open
 * @param {boolean} chosen  was a certain device asked for?
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
