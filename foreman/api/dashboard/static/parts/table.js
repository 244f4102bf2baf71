/**
 * Tables: rows and columns on a wide screen, on a narrow one each row a small card with its columns' names.
 * The roles are written out because a table that is laid out as a grid loses them in some browsers.
 */

import { NOTHING } from "../format.js";
import { h } from "../ui.js";

/**
 * @typedef {object} Column
 * @property {string} name - the heading
 * @property {(row: any) => any} cell
 * @property {string} [kind] - `number`, `wide`, `main` or `quiet`: how it is laid out
 */

/**
 * @param {object} props
 * @param {string} props.caption - for those who do not see what the table stands under
 * @param {Column[]} props.columns
 * @param {any[]} props.rows
 * @param {(row: any) => string | number} props.keyOf
 */
export function Table({ caption, columns, rows, keyOf }) {
  return h(
    "table",
    { role: "table" },
    h("caption", { class: "unseen" }, caption),
    h(
      "thead",
      { role: "rowgroup" },
      h(
        "tr",
        { role: "row" },
        columns.map(({ name, kind = "" }) => h("th", { key: name, scope: "col", role: "columnheader", class: kind }, name)),
      ),
    ),
    h(
      "tbody",
      { role: "rowgroup" },
      rows.map((row) => h(Row, { key: keyOf(row), columns, row })),
    ),
  );
}

function Row({ columns, row }) {
  return h(
    "tr",
    { role: "row" },
    columns.map(({ name, kind = "", cell }) => {
      const shown = cell(row);
      // A card has no room for what there is not.
      const nothing = shown === NOTHING || shown === "" || shown == null || shown === false;
      return h("td", { key: name, role: "cell", class: nothing ? `${kind} nothing` : kind, "data-name": name }, shown);
    }),
  );
}
