import assert from 'node:assert/strict';
import { parseFaults } from '../../shared/config/faults.ts';
import { generatePlans, SHAPE, windowsOf } from './generator.ts';

describe('the plans of the fault suite', () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    it(`strike every window three times in 60 runs, and can all be carried out (seed ${seed})`, () => {
      const plans = generatePlans(60, seed, ['embedded', 'etcd']);
      for (const [window, count] of Object.entries(windowsOf(plans))) assert.ok(count >= 3, `${window}: ${count}`);
      for (const { faults } of plans) assert.equal(parseFaults(faults, SHAPE).length, faults.length);
      const lines = plans.flatMap(({ faults }) => faults).join('\n');
      for (const target of [
        'kill scheduler',
        'kill server',
        'kill worker',
        'pause scheduler',
        'pause server',
        'pause worker',
      ]) {
        assert.ok(lines.includes(target), `${target} in\n${lines}`);
      }
      for (const coordination of ['embedded', 'etcd']) {
        const windows = windowsOf(plans.filter((plan) => plan.coordination === coordination));
        assert.ok(
          Object.values(windows).every((count) => count > 0),
          `${coordination}: ${JSON.stringify(windows)}`,
        );
      }
    });
  }

  it('are the same for the same seed, and others for another', () => {
    const of = (seed: number): string => JSON.stringify(generatePlans(20, seed, ['embedded']));
    assert.equal(of(7), of(7));
    assert.notEqual(of(7), of(8));
  });
});
