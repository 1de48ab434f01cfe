import assert from 'node:assert/strict';
import { drawCurve } from '../../../deploy/cli/curve.ts';
import { paint } from '../../../deploy/cli/output.ts';
import { formatTable, visibleWidth } from '../../../deploy/cli/table.ts';

describe('formatTable', () => {
  it('aligns columns, three spaces apart, without trailing blanks', () => {
    const columns = [{ title: 'run' }, { title: 'step', align: 'right' }, { title: 'state' }] as const;
    const rows = [
      ['a', 5, 'RUNNING'],
      ['longer', 1234, undefined],
    ];
    assert.equal(formatTable(columns, rows), 'RUN      STEP   STATE\na           5   RUNNING\nlonger   1234   -');
  });

  it('is only titles without rows', () => assert.equal(formatTable([{ title: 'a' }, { title: 'b' }], []), 'A   B'));

  it('keeps the alignment of colored cells', () => {
    const red = paint(true, 'red', 'x');
    assert.equal(visibleWidth(red), 1);
    const [, first = '', second = ''] = formatTable(
      [{ title: 'abc' }, { title: 'd' }],
      [
        [red, 1],
        ['yyy', 2],
      ],
    ).split('\n');
    assert.equal(visibleWidth(first), visibleWidth(second));
  });
});

describe('drawCurve', () => {
  it('draws a ramp from the foot to the top, with labels', () => {
    // Steps 0 .. 4 in 5 columns and 5 rows up to 100 %: one row a step.
    assert.equal(
      drawCurve((step) => step / 4, 4, 5, 5),
      [
        ' 100 % |    *',
        '       |   *',
        '  50 % |  *',
        '       | *',
        '   0 % |*',
        '       +-----',
        '        0   4  step',
      ].join('\n'),
    );
  });

  it('joins jumps and scales to the next 10 %', () => {
    const lines = drawCurve((step) => (step < 2 ? 0 : 0.8), 4, 5, 3).split('\n');
    assert.deepEqual(lines.slice(0, 3), ['  80 % |  ***', '  40 % |  *', '   0 % |**']);
  });

  it('stays at the foot without pruning', () => {
    assert.match(
      drawCurve(() => 0, 10, 5, 3),
      / {3}0 % \|\*{5}\n/,
    );
  });
});
