/** A line of the plot: a value at each of its points. */
export interface Series {
  readonly name: string;
  readonly values: readonly number[];
}

/** At most so many series have a letter of their own. */
export const MOST_SERIES = 26;
/** Columns from one point to the next. */
const STEP = 10;

/**
 * Curves over named points in plain characters: each series is a letter, `#` where several meet. Points stand at equal
 * distances, values between them on straight lines; the axis begins at the smallest value.
 */
export function plotSeries(
  points: readonly string[],
  all: readonly Series[],
  format: (value: number) => string,
  height = 13,
): string {
  const series = all.slice(0, MOST_SERIES);
  const values = series.flatMap((each) => each.values);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const rowOf = (value: number): number =>
    high === low ? 0 : Math.round(((value - low) / (high - low)) * (height - 1));
  const width = (points.length - 1) * STEP + 1;
  const cells = Array.from({ length: height }, () => new Array<string>(width).fill(' '));
  for (const [k, each] of series.entries()) {
    const mark = String.fromCharCode('a'.charCodeAt(0) + k);
    for (let x = 0; x < width; x++) {
      const row = cells[rowOf(valueAt(each.values, x / STEP))] as string[];
      row[x] = row[x] === ' ' ? mark : '#';
    }
  }
  const labels = [low, (low + high) / 2, high].map(format);
  const margin = Math.max(...labels.map((label) => label.length));
  const lines = cells
    .map((row, y) => {
      const label = y === 0 ? labels[0] : y === height - 1 ? labels[2] : y === (height - 1) / 2 ? labels[1] : '';
      return `${(label ?? '').padStart(margin)} |${row.join('').trimEnd()}`;
    })
    .reverse();
  const legend = series.map(({ name }, k) => `${String.fromCharCode('a'.charCodeAt(0) + k)}  ${name}`);
  return [
    ...lines,
    `${' '.repeat(margin)} +${'-'.repeat(width)}`,
    `${axisLabels(points, margin + 2)}`,
    '',
    ...legend,
    ...(all.length > series.length ? [`(${all.length - series.length} more are in the table)`] : []),
  ].join('\n');
}

/** Linear between the values at whole positions. */
function valueAt(values: readonly number[], position: number): number {
  const before = values[Math.floor(position)] as number;
  const after = values[Math.ceil(position)] as number;
  return before + (after - before) * (position - Math.floor(position));
}

/** Each point's name with its middle under its column. */
function axisLabels(points: readonly string[], margin: number): string {
  return points.reduce((line, point, k) => line.padEnd(margin + k * STEP - Math.floor(point.length / 2)) + point, '');
}
