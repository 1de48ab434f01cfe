/** A column of a table. Numbers read better at the right. */
export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
}

/**
 * A table as kubectl prints them: upper-case titles, three spaces between columns, no lines, no trailing
 * blanks. Cells are text; undefined becomes `-`. Colored cells keep their alignment.
 */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly (string | number | undefined)[])[],
): string {
  const cells = rows.map((row) => columns.map((_, c) => (row[c] === undefined ? '-' : String(row[c]))));
  const titles = columns.map((column) => column.title.toUpperCase());
  const widths = columns.map((_, c) => Math.max(...[titles, ...cells].map((row) => visibleWidth(row[c] ?? ''))));
  return [titles, ...cells]
    .map((row) =>
      row
        .map((cell, c) => {
          const blanks = ' '.repeat((widths[c] ?? 0) - visibleWidth(cell));
          return columns[c]?.align === 'right' ? blanks + cell : cell + blanks;
        })
        .join('   ')
        .trimEnd(),
    )
    .join('\n');
}

/** Characters a terminal shows: escape sequences count nothing. */
export function visibleWidth(text: string): number {
  return text.replace(/\u001b\[[0-9;]*m/g, '').length;
}
