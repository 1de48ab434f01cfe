import assert from 'node:assert/strict';
import { MOST_SERIES, plotSeries } from '../../../deploy/cli/series-plot.ts';

describe('plotSeries', () => {
  it('draws each series with its letter over the named points', () => {
    const plot = plotSeries(
      ['0 %', '50 %', '99 %'],
      [
        { name: 'dense_1/kernel', values: [4, 4, 0] },
        { name: 'dense_2/kernel', values: [4, 2, 2] },
      ],
      (value) => value.toFixed(1),
      5,
    );
    // a falls from 4 to 0 between columns 10 and 20, and meets b, which is at 2, in columns 14 to 16.
    assert.equal(
      plot,
      `4.0 |###aaaaaaaaa
    |   bbbbb    aa
2.0 |        bbbbbb###bbbb
    |                 aa
0.0 |                   aa
    +---------------------
    0 %      50 %      99 %

a  dense_1/kernel
b  dense_2/kernel`,
    );
  });

  it('has a flat line for values that are all alike, and says how many series it leaves out', () => {
    const series = Array.from({ length: MOST_SERIES + 2 }, (_, k) => ({ name: `layer_${k}`, values: [1, 1] }));
    const plot = plotSeries(['0 %', '9 %'], series, String, 3);
    assert.match(plot, /^1 \|#{11}$/m);
    assert.match(plot, /\n\(2 more are in the table\)$/);
  });
});
