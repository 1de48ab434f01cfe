import assert from 'node:assert/strict';
import { differences } from '../../../deploy/launchers/resume.ts';
import { engineConfig } from '../../fixtures/config.ts';

describe('differences', () => {
  const before = engineConfig({}, 2);
  const cluster = (change: Partial<typeof before.cluster>) => ({
    ...before,
    cluster: { ...before.cluster, ...change },
  });

  it('are notes where no result depends on them', () => {
    assert.deepEqual(differences(cluster({ servers: 2, workers: { min: 2, max: 2 } }), before), {
      notes: [
        '1 server instead of 2; the digests do not depend on it',
        '1 worker instead of 2, and still 2 slices; the digests do not depend on it',
      ],
      warnings: [],
    });
    assert.deepEqual(differences(before, before), { notes: [], warnings: [] });
  });

  it('are warnings where the digests do', () => {
    const { notes, warnings } = differences(before, cluster({ slices: 3, workers: { min: 3, max: 3 } }));
    assert.deepEqual(notes, ['3 workers instead of 1; the digests do not depend on it']);
    assert.match(warnings.join(), /^changed since the checkpoint: cluster\.slices; the digests will differ/);
  });
});
