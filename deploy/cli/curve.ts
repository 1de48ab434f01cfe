/**
 * A curve of sparsity over a run's steps 0 .. steps in plain characters: `*` at the value of each column's
 * step, 0 % at the foot and the largest value rounded up to 10 % at the top.
 */
export function drawCurve(valueAt: (step: number) => number, steps: number, width = 64, height = 11): string {
  const values = Array.from({ length: width }, (_, x) => valueAt(Math.round((x * steps) / (width - 1))));
  const top = Math.min(1, Math.max(0.1, Math.ceil(Math.max(...values) * 10 - 1e-9) / 10));
  const rows = values.map((value) => Math.round((value / top) * (height - 1)));
  const lines = Array.from({ length: height }, (_, fromTop) => {
    const y = height - 1 - fromTop;
    const isLabelled = y === 0 || y === height - 1 || y === Math.round((height - 1) / 2);
    const label = isLabelled ? `${Math.round((y / (height - 1)) * top * 100)} %` : '';
    const points = rows.map((row, x) => (between(y, row, rows[x - 1] ?? row) ? '*' : ' ')).join('');
    return `${label.padStart(6)} |${points.trimEnd()}`;
  });
  const end = String(steps);
  return [...lines, `${' '.repeat(7)}+${'-'.repeat(width)}`, `${' '.repeat(8)}0${end.padStart(width - 1)}  step`].join(
    '\n',
  );
}

/** The row itself, or one that a jump from the column before passes. */
function between(y: number, row: number, before: number): boolean {
  return y === row || (before < y && y < row) || (row < y && y < before);
}
