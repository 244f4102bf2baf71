/** The browser's storage, which may be closed to the page or full: then nothing is remembered, and nothing breaks. */

/**
 * @param {"local" | "session"} kind - kept on this device, or until the tab is closed
 * @returns {{get(key: string): string | null, set(key: string, value: string): void, remove(key: string): void}}
 */
function open(kind) {
  const attempt = (use) => {
    try {
      return use(kind === "local" ? window.localStorage : window.sessionStorage);
    } catch {
      return null;
    }
  };
  return {
    get: (key) => attempt((storage) => storage.getItem(key)),
    set: (key, value) => attempt((storage) => storage.setItem(key, value)),
    remove: (key) => attempt((storage) => storage.removeItem(key)),
  };
}

export const local = open("local");
export const session = open("session");
