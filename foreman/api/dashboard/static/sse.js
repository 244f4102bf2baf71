/** Server-sent events out of a stream's text (the HTML standard's format). Knows nothing of connections. */

/**
 * @param {(message: {type: string, id: string | null, data: string}) => void} deliver - also for an `id` without data
 * @returns {(text: string) => void} takes the text as it comes, cut anywhere
 */
export function parser(deliver) {
  let rest = "";
  let fields = { type: "", id: null, data: [] };
  const field = (line) => {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") fields.type = value;
    else if (name === "id") fields.id = value;
    else if (name === "data") fields.data.push(value);
  };
  return (text) => {
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line !== "") {
        field(line);
      } else if (fields.id !== null || fields.data.length) {
        deliver({ type: fields.type || "message", id: fields.id, data: fields.data.join("\n") });
        fields = { type: "", id: null, data: [] };
      }
    }
  };
}
