import assert from 'node:assert/strict';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import {
  assertQuiet,
  digestsOf,
  finish,
  launchAndKillAt,
  latestCheckpoint,
  removeFolder,
  writeRunFile,
} from './support.ts';
import { Contents } from './techniques/contents.ts';

const KERNELS = ['dense_1/kernel', 'dense_2/kernel', 'dense_3/kernel'];
/** Two rounds of a lottery ticket: prune, go back to step 4, prune further, go back again. */
const DOCUMENT = {
  name: 'lottery',
  model: 'lenet-300-100',
  data: { source: 'mnist', batchSize: 64 },
  cluster: { backend: 'wasm', slices: 2 },
  training: { steps: 40, optimizer: { kind: 'adam', learningRate: 0.001 }, evaluateEvery: 0 },
  sparsity: [
    {
      scope: 'layer',
      schedule: {
        kind: 'steps',
        steps: [
          { at: 12, sparsity: 0.6 },
          { at: 26, sparsity: 0.84 },
        ],
      },
    },
  ],
  rewind: [
    { at: 14, to: 4 },
    { at: 28, to: 4 },
  ],
  checkpoint: { every: 10, keep: 20 },
};

describe('lottery rewinding of LeNet-300-100 on MNIST', function () {
  this.timeout(300_000);
  let folder: string;
  let once: RunResult;

  const launch = async (
    runId: string,
    servers: number,
    workers: number,
    faulty: { faults?: string[] } = {},
  ): Promise<string[]> => [
    ...[
      'launch',
      await writeRunFile(folder, { ...DOCUMENT, ...faulty }, runId),
      '--runs-dir',
      folder,
      '--run-id',
      runId,
    ],
    ...['--set', `cluster.servers=${servers}`, '--set', `cluster.workers=${workers}`],
  ];

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'whittle-rewind-'));
    once = await finish(await launch('once', 1, 1));
  });
  after(() => removeFolder(folder));

  it('brings back the weights of the earlier step under the mask of the later one, and trains on from there', async () => {
    const [early, rewound, again] = await Promise.all(
      [4, 14, 28].map((clock) => Contents.of(once.runDirectory, clock)),
    );
    assert.ok(early && rewound && again);
    for (const [later, dead] of [
      [rewound, [141_120, 18_000, 600]],
      [again, [197_568, 25_200, 840]],
    ] as const) {
      assert.deepEqual(
        KERNELS.map((kernel) => later.dead(kernel)),
        dead,
      );
      for (const kernel of KERNELS) {
        const alive = later.alive(kernel);
        const expected = early.weights(kernel).map((weight, i) => (alive[i] === 1 ? weight : 0));
        assert.deepEqual(later.weights(kernel), expected, kernel);
      }
    }
    const end = await Contents.of(once.runDirectory, 40);
    assert.notDeepEqual(end.weights('dense_1/kernel'), again.weights('dense_1/kernel'));
  });

  it('has the same digests on 3 servers whose scheduler dies before a rewind and in the middle of another', async () => {
    const faults = [
      'at failpoint rollback.generation-taken step 14 kill scheduler',
      // The first is of the checkpoint from which the rewind begins.
      'at failpoint checkpoint.manifest-written step 28 hit 2 kill scheduler',
    ];
    const result = await finish(await launch('faulty', 3, 1, { faults }));
    const deaths = result.recoveries.filter(({ cause }) => cause === 'the scheduler was lost');
    assert.deepEqual(
      deaths.map(({ step }) => step),
      [14, 28],
    );
    assert.deepEqual(digestsOf(result), digestsOf(once));
    await assertQuiet(result.runDirectory);
  });

  it('has them killed as a whole in the middle of a rewind and resumed on 2 servers', async () => {
    const killed = join(folder, 'killed');
    await launchAndKillAt('checkpoint.manifest-written#2@14', await launch('killed', 2, 1), killed);
    const latest = await latestCheckpoint(killed);
    assert.equal(latest.folder, 'step-00000014-g1', 'what came of the rewind is not the latest yet');
    const resumed = await finish(['resume', killed, '--workers', '2']);
    assert.equal(resumed.resumedFrom, 14);
    assert.deepEqual(digestsOf(resumed), digestsOf(once));
    await assertQuiet(killed);
  });
});
