/** Loads something once for all who need it. */

/**
 * @param {() => Promise<void>} load
 * @returns {() => Promise<void>} the same promise for all callers; after a failure, the next call loads again
 */
export function once(load) {
  /** @type {Promise<void> | null} */
  let loading = null;
  return () => {
    loading ??= load().catch((error) => { loading = null; throw error; });
    return loading;
  };
}
