import assert from 'node:assert/strict';
import { explore, PRODUCT_RULES } from './explorer.ts';
import { CONFIG_WITH_SUMS } from './explorer-job.ts';
import type { Rules } from './explorer-model.ts';
import { loadMutant } from './mutant.ts';

const SHARD = 'server/parameter-server/shard.ts';
const LOCKSTEP = 'server/parameter-server/lockstep.ts';
const COMMITTER = 'server/scheduler/checkpoint-committer.ts';
const COORDINATOR = 'shared/coordination/embedded.ts';

type Classes = Pick<Rules, 'Shard' | 'Committer' | 'Coordinator'>;

const shard = (place: string, instead: string): Promise<Partial<Classes>> =>
  loadMutant<Pick<Classes, 'Shard'>>(SHARD, [[place, instead]]).then(({ Shard }) => ({ Shard }));

/** A shard that imports a changed module, also by way of the modules in which its parts lie. */
const within = (path: string, changes: readonly (readonly [string, string])[]): Promise<Partial<Classes>> =>
  loadMutant<Pick<Classes, 'Shard'>>(SHARD, [], { [LOCKSTEP]: [], [path]: changes }).then(({ Shard }) => ({ Shard }));

/** One rule broken, and the violation by which the explorer must notice. */
const MUTANTS: readonly [what: string, mutate: () => Promise<Partial<Rules>>, violation: RegExp, kills?: number][] = [
  [
    'a repeated slice counts as the next one',
    () =>
      within('server/parameter-server/slice-reduction.ts', [
        ['return slice < this.#next || this.#waiting.has(slice);', 'return false;'],
        [
          'this.#waiting.set(push.slice, push);',
          'const isRepeated = push.slice < this.#next || this.#waiting.has(push.slice);\n' +
            '    this.#waiting.set(isRepeated ? this.#next : push.slice, push);',
        ],
      ]),
    /other bits/,
  ],
  [
    'a repeated slice is an error',
    () => shard('if (push.step < this.#next) {', 'if (push.step < this.#clock) {'),
    /push for step (\d) while the shard is at clock \1/,
  ],
  [
    'a restored shard forgets its momentum',
    () =>
      within('server/parameter-server/stored-values.ts', [
        ['return slot.slice();', 'return new Float32Array(slot.length);'],
      ]),
    /other bits/,
  ],
  [
    'a mask commit that comes twice is an error',
    () => shard('if (maskEpoch <= this.maskEpoch) return', 'if (maskEpoch < this.maskEpoch) return'),
    /commit of mask epoch 1/,
  ],
  [
    'a checkpoint is committed before all parts are there',
    () =>
      loadMutant<{ CheckpointCommitter: Classes['Committer'] }>(COMMITTER, [
        ['if (parts.size < this.#options.servers) return;', ''],
      ]).then(({ CheckpointCommitter: Committer }) => ({ Committer })),
    /checkpoint of 1 shards/,
  ],
  [
    'an older generation may still move latest',
    async () => {
      const { EmbeddedCoordinator } = await loadMutant<{ EmbeddedCoordinator: Classes['Coordinator'] }>(
        COORDINATOR,
        [
          [
            '      if (generation !== this.#journal.inForce) throw staleGeneration(latest, this.#journal.inForce);\n',
            '',
          ],
        ],
        { 'shared/coordination/journal.ts': [['    if (generation !== this.inForce) return false;\n', '']] },
      );
      return { Coordinator: EmbeddedCoordinator };
    },
    /became the latest in/,
    2,
  ],
  ['servers take what is of an older generation', () => Promise.resolve({ checkGenerations: false }), /push for step/],
  [
    'a new scheduler does not pass on a record that one server has',
    () => Promise.resolve({ passRecordOn: false }),
    /standstill/,
  ],
  ['servers keep only the newest answer', () => Promise.resolve({ retained: 1 }), /finds no clock/],
];

const PEER_PARTS = 'server/parameter-server/peer-parts.ts';
const WITH_SUMS: Rules = { ...PRODUCT_RULES, config: CONFIG_WITH_SUMS };
const SUM_MUTANTS: typeof MUTANTS = [
  [
    'a sum is made before all parts are there',
    () => within(PEER_PARTS, [['parts.size < this.#servers', 'parts.size < this.#servers - 1']]),
    /no partial sum covers/,
  ],
  [
    "a repeated part counts as another server's",
    () => within(PEER_PARTS, [['parts.set(sender, nodes)', 'parts.set(parts.size, nodes)']]),
    /no partial sum covers/,
  ],
  [
    'a part that comes early is lost',
    () =>
      shard(
        'this.#steps.peers?.groups.add(step, sender, nodes);',
        "if (this.phase === 'groups') this.#steps.peers?.groups.add(step, sender, nodes);",
      ),
    /standstill/,
  ],
];

describe('every execution of a small run in which processes die', function () {
  // About ten seconds of one idle core.
  this.timeout(300_000);

  it('keeps the invariants and ends with the same bits, with at most 2 kills at any point', async () => {
    const { states, transitions, ends, machines, violation } = await explore(2);
    assert.equal(violation, null, JSON.stringify(violation, null, 1));
    // Fewer would say that something is not explored any more.
    assert.ok(
      states > 100_000 && transitions > 400_000 && ends > 1_000,
      JSON.stringify({ states, transitions, ends, machines }),
    );
  });

  it('does so with sums over all servers in every step, with at most 1 kill', async () => {
    const { states, transitions, ends, machines, violation } = await explore(1, WITH_SUMS);
    assert.equal(violation, null, JSON.stringify(violation, null, 1));
    assert.ok(states > 10_000 && ends > 100, JSON.stringify({ states, transitions, ends, machines }));
  });

  for (const [what, mutate, expected] of SUM_MUTANTS) {
    it(`would find that ${what}`, async () => {
      const { violation } = await explore(0, { ...WITH_SUMS, ...(await mutate()) });
      assert.match(violation?.message ?? 'no violation', expected);
    });
  }

  for (const [what, mutate, expected, kills = 1] of MUTANTS) {
    it(`would find that ${what}`, async () => {
      const { violation } = await explore(kills, { ...PRODUCT_RULES, ...(await mutate()) });
      assert.match(violation?.message ?? 'no violation', expected);
    });
  }
});
