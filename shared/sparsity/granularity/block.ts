import { asMatrix, type Granularity, numElements, tell } from './granularity.ts';

/** Blocks of `height` inputs by `width` outputs, row by row. A convolution's kernel is a matrix of (taps x inputs) by outputs. */
export function block([height, width]: readonly [rows: number, columns: number]): Granularity {
  return {
    name: 'block',
    numUnits(shape) {
      const { rows, columns } = asMatrix(shape);
      return (rows / height) * (columns / width);
    },
    unitOf(shape) {
      const { columns } = asMatrix(shape);
      const across = columns / width;
      const units = new Uint32Array(numElements(shape));
      for (let i = 0; i < units.length; i++) {
        const row = Math.floor(i / columns);
        const column = i - row * columns;
        units[i] = Math.floor(row / height) * across + Math.floor(column / width);
      }
      return units;
    },
    refuse(parameter) {
      if (parameter.shape.length < 2) {
        return `${tell(parameter)} is no matrix and has no blocks [${height}, ${width}]; leave it out of match`;
      }
      const { rows, columns } = asMatrix(parameter.shape);
      for (const [count, size, what] of [
        [rows, height, 'rows (inputs)'],
        [columns, width, 'columns (outputs)'],
      ] as const) {
        if (count % size !== 0) {
          return `the ${count} ${what} of ${tell(parameter)} are no multiple of ${size} and cannot be cut into blocks [${height}, ${width}]; choose a divisor of ${count}, or leave it out of match`;
        }
      }
      return null;
    },
  };
}
