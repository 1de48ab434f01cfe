import assert from 'node:assert/strict';
import type { HistoryEvent } from '../../shared/telemetry/history-records.ts';
import { checkHistory } from './check-history.ts';
import { type Change, EXPECTED, handMade } from './hand-made.ts';
import type { Invariant } from './history-timeline.ts';

type Kind = HistoryEvent['kind'];
type Of<K extends Kind> = Extract<HistoryEvent, { kind: K }>;

/** Changes the first event of a kind that `which` finds; answers what stands in its place. */
function at<K extends Kind>(
  kind: K,
  which: (event: Of<K>) => boolean,
  put: (event: Of<K>) => readonly HistoryEvent[],
): Change {
  let done = false;
  return (event) => {
    if (done || event.kind !== kind || !which(event as Of<K>)) return [event];
    done = true;
    return put(event as Of<K>);
  };
}

const isLast = (event: { generation: number; step: number; shard: number }): boolean =>
  event.generation === 2 && event.step === 5 && event.shard === 1;

/** What a defect would leave behind, and the invariant that it breaks. */
const BAD: readonly [what: string, invariant: Invariant, change: Change][] = [
  ['a step applied twice', 1, at('applied', isLast, (e) => [e, e])],
  ['a step applied by one server and not by the other', 1, at('applied', isLast, () => [])],
  ['a slice applied twice within a step', 1, at('applied', isLast, (e) => [{ ...e, slices: [0, 0], senders: [0, 0] }])],
  ['a slice left out', 1, at('applied', isLast, (e) => [{ ...e, slices: [0], senders: [0] }])],
  ['a slice applied that was not accepted', 1, at('push', isLast, (e) => [{ ...e, verdict: 'duplicate' }])],
  ['a duplicate accepted', 1, at('push', isLast, (e) => [e, { ...e, sender: 1 }])],
  ["another worker's copy applied than the accepted one", 1, at('applied', isLast, (e) => [{ ...e, senders: [1, 1] }])],
  ['weights of an older clock than asked for', 2, at('read', isLast0, (e) => [{ ...e, given: 4 }])],
  ['weights of a clock not reached', 2, at('read', isLast0, (e) => [{ ...e, given: 6 }])],
  ['a mask epoch left out', 3, at('mask', isUpdate, (e) => [{ ...e, maskEpoch: 3 }])],
  ['a mask epoch at different steps', 3, at('mask', isUpdate, (e) => [{ ...e, step: 5 }])],
  ['a push of an older mask applied', 3, at('push', isLast, (e) => [{ ...e, maskEpoch: 1 }])],
  [
    'two commit records for one step',
    3,
    at(
      'commit-decided',
      () => true,
      (e) => [e, { ...e, digest: 'other' }],
    ),
  ],
  [
    'a file with an older mask',
    3,
    at(
      'shard-written',
      ({ clock }) => clock === 6,
      (e) => [{ ...e, maskDigest: 'mask-0-1' }],
    ),
  ],
  ['a count that is not the schedule’s', 4, at('mask', isUpdate, (e) => [{ ...e, removed: 5, dead: 9 }])],
  ['an update step passed without an update', 4, at('mask', isUpdate, () => [])],
  ['an element that came back', 5, at('mask', isUpdate, (e) => [{ ...e, regrown: 1, removed: 5 }])],
  ['dead elements that were never removed', 5, at('mask', isUpdate, (e) => [{ ...e, removed: 3 }])],
  ['another mask when an update is done again', 6, at('mask', isUpdate, (e) => [{ ...e, digest: 'other' }])],
  ['a push of an older generation accepted', 7, at('push', isLast, (e) => [{ ...e, generation: 1 }])],
  ['a commit of an older generation applied', 7, at('mask', isUpdate, (e) => [{ ...e, generation: 1 }])],
  [
    'a generation taken by two',
    7,
    at(
      'generation',
      ({ generation }) => generation === 2,
      (e) => [e, e],
    ),
  ],
  [
    'a checkpoint of an older generation committed',
    7,
    at(
      'checkpoint',
      ({ clock }) => clock === 6,
      (e) => [{ ...e, phase: 'committed', generation: 1 }],
    ),
  ],
  [
    'a server that goes back to an older generation',
    7,
    at(
      'shard-taken',
      ({ generation }) => generation === 2,
      (e) => [e, { ...e, generation: 1 }],
    ),
  ],
  ['a slice with other examples', 8, at('push', isLast, (e) => [{ ...e, examples: 4 }])],
  [
    'a run that never ended',
    10,
    at(
      'ended',
      () => true,
      () => [],
    ),
  ],
  [
    'a run that ended otherwise than it says',
    10,
    at(
      'ended',
      () => true,
      (e) => [{ ...e, state: 'FAILED' }],
    ),
  ],
  [
    'a checkpoint without one shard',
    'checkpoint',
    at(
      'checkpoint',
      ({ clock }) => clock === 3,
      (e) => [{ ...e, shards: e.shards.slice(0, 1) }],
    ),
  ],
  [
    'a checkpoint with a shard that nobody wrote',
    'checkpoint',
    at(
      'shard-written',
      ({ clock }) => clock === 3,
      () => [],
    ),
  ],
  [
    'a checkpoint of shards of two clocks',
    'checkpoint',
    at(
      'shard-written',
      ({ clock }) => clock === 3,
      (e) => [{ ...e, clock: 4 }],
    ),
  ],
  [
    'a timeline that starts from no checkpoint',
    'checkpoint',
    at(
      'generation',
      ({ generation }) => generation === 2,
      (e) => [{ ...e, from: { clock: 3, checkpoint: 'step-00000004-g1' } }],
    ),
  ],
  ['a last step without a checkpoint', 'checkpoint', (e) => (e.kind === 'checkpoint' && e.clock === 6 ? [] : [e])],
];

function isUpdate({ generation, step }: Of<'mask'>): boolean {
  return generation === 2 && step === 4;
}

function isLast0({ generation, given, shard }: Of<'read'>): boolean {
  return generation === 2 && given === 5 && shard === 0;
}

describe('the checker of recorded histories', () => {
  it('finds nothing wrong with a run that lost a server, rolled back and went on', () => {
    assert.deepEqual(checkHistory(handMade(), EXPECTED), []);
  });

  it('finds nothing wrong with a shard file of the older generation that is finished late', () => {
    const late: Change = (event) =>
      event.kind === 'shard-taken' && event.generation === 2
        ? [
            event,
            {
              kind: 'shard-written',
              shard: 0,
              generation: 1,
              clock: 5,
              maskEpoch: 2,
              start: 0,
              end: 64,
              sha256: 'late',
              maskDigest: 'mask-0-2',
            },
          ]
        : [event];
    assert.deepEqual(checkHistory(handMade(late), EXPECTED), []);
  });

  for (const [what, invariant, change] of BAD) {
    it(`finds ${what} (${invariant === 'checkpoint' ? invariant : `invariant ${invariant}`})`, () => {
      const found = checkHistory(handMade(change), EXPECTED);
      assert.ok(
        found.some((violation) => violation.invariant === invariant),
        JSON.stringify(found),
      );
    });
  }

  it('holds reads to the bound of ssp', () => {
    const expected = { ...EXPECTED, mode: 'ssp' as const, staleness: 2 };
    const lagging = (given: number): Change => at('read', isLast0, (e) => [{ ...e, asked: 3, given }]);
    assert.deepEqual(checkHistory(handMade(lagging(3)), expected), []);
    const found = checkHistory(handMade(lagging(2)), expected);
    assert.deepEqual(
      found.map(({ invariant }) => invariant),
      [2],
    );
  });

  it('says that there is no history where there is none', () => {
    assert.deepEqual(
      checkHistory([], EXPECTED).map(({ invariant }) => invariant),
      [10],
    );
  });
});
