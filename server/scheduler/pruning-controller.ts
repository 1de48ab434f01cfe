import type { ParameterServerClient } from '../../protos/generated/whittle/ParameterServer.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { checkpointName } from '../../shared/checkpoint/manifest-file.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { unary } from '../../shared/rpc/client.ts';
import { selectionToMessage } from '../../shared/rpc/selection-messages.ts';
import type { GuardNote } from '../../shared/sparsity/guard.ts';
import { type MaskPlan, planMaskUpdate, raisesSparsity, type RuleReport } from '../../shared/sparsity/mask-update.ts';
import { matchedParameters } from '../../shared/sparsity/rules.ts';
import { failpoint, failpointAfterSend } from '../../shared/telemetry/failpoints.ts';
import type {
  HistogramQuery,
  ScoresAnswer,
  ScoresQuery,
  Selection,
  SelectionSource,
} from '../../shared/sparsity/selection.ts';
import type { GuardLeave } from './run/guard-desk.ts';
import type { ModelUnits } from '../../shared/model-graph/unit-groups.ts';

const HISTOGRAM_DEADLINE_MS = 30_000;
const COMMIT_DEADLINE_MS = 60_000;

export interface ServerHandle {
  readonly rank: number;
  readonly address: string;
  readonly client: ParameterServerClient;
}

/** What was decided at one update step; kept so that a server that missed it gets the very same record. */
export interface CommitRecord {
  readonly generation: number;
  readonly step: number;
  readonly maskEpoch: number;
  /** Per server, in cut order. */
  readonly selections: readonly (readonly Selection[])[];
  readonly reports: readonly RuleReport[];
  /** What the guard made of the step; absent: no guard. */
  readonly guard?: GuardNote;
  /** Name of the checkpoint whose weights, slots, mask and state are put back; absent: none. */
  readonly restoreFrom?: string;
}

/** What the guard has to say at a mask step; see GuardDesk. */
export interface GuardVoice {
  leaveAt(step: number): GuardLeave;
  settle(step: number, raises: boolean): GuardNote;
  /** The checkpoint of a mask update, once it is durable. */
  saved(clock: number): Promise<Manifest>;
}

export interface CommittedUpdate extends CommitRecord {
  /** Dead elements over all elements that any rule matches, from the servers' mask bits. */
  readonly sparsity: number;
}

export interface MaskUpdateOptions {
  readonly generation: number;
  readonly step: number;
  readonly maskEpoch: number;
  readonly config: RunConfig;
  readonly space: ParameterSpace;
  readonly begun: ParameterSpace;
  readonly units: ModelUnits;
  readonly cuts: readonly number[];
  readonly servers: readonly ServerHandle[];
  /** Null: no guard. */
  readonly guard: GuardVoice | null;
  /** Hears of the record before any server is sent it. */
  readonly onDecided?: (record: CommitRecord) => void;
  readonly signal: AbortSignal;
}

/**
 * Decides and commits one mask update while all servers hold at `step`.
 * Guarantee: histograms are read-only and repeatable, the record is a function of the held weights and the run
 * file alone, and applying it twice is applying it once; so this may be repeated from the start at any point.
 */
export async function updateMask(options: MaskUpdateOptions): Promise<CommittedUpdate> {
  const { generation, step, guard } = options;
  const leave = guard?.leaveAt(step) ?? { kind: 'update', catchesUp: false };
  const unchanged: MaskPlan = { selections: options.servers.map(() => []), reports: [] };
  const planned = leave.kind === 'update' ? await planAt(options, leave.catchesUp) : unchanged;
  const restoreFrom = leave.kind === 'restore' && guard ? checkpointNameOf(await guard.saved(leave.to)) : undefined;
  const note = guard?.settle(step, raisesSparsity(planned));
  const { selections, reports } = note?.action === 'held' ? unchanged : planned;
  const record: CommitRecord = {
    ...{ generation, step, maskEpoch: options.maskEpoch, selections, reports },
    ...(note === undefined ? {} : { guard: note }),
    ...(restoreFrom === undefined ? {} : { restoreFrom }),
  };
  options.onDecided?.(record);
  failpoint('commit.decided', step);
  return commitMask(record, options);
}

function planAt(options: MaskUpdateOptions, catchesUp: boolean): Promise<MaskPlan> {
  const { generation, step, config, space, begun, units, cuts, servers, signal } = options;
  return planMaskUpdate({
    ...{ rules: config.sparsity, space, begun, units, step, catchesUp, seed: config.seed, cuts },
    sources: servers.map((server) => remoteSource(server, generation, step, signal)),
  });
}

/**
 * Brings a record into force on all servers; one that has it already acknowledges it again. A scheduler that takes
 * over uses it to finish what the one before began.
 */
export async function commitMask(
  record: CommitRecord,
  options: {
    readonly config: RunConfig;
    readonly begun: ParameterSpace;
    readonly servers: readonly ServerHandle[];
    readonly signal: AbortSignal;
  },
): Promise<CommittedUpdate> {
  const { config, begun, servers, signal } = options;
  const survivors = await Promise.all(
    servers.map(async (server, i) => {
      const fault = i === 1 ? failpointAfterSend('commit.sent-to-some', record.step) : undefined;
      if (fault) await fault;
      return commit(server, record, signal);
    }),
  );
  return { ...record, sparsity: sparsityOf(survivors, config, begun) };
}

/**
 * Dead elements over all elements that any rule matches, both of the model that the run began with.
 * @param survivors of each shard, never-pruned elements included
 */
export function sparsityOf(survivors: readonly number[], config: RunConfig, begun: ParameterSpace): number {
  const removed = begun.size - survivors.reduce((a, b) => a + b, 0);
  const matched = matchedParameters(config.sparsity, begun).reduce((sum, { size }) => sum + size, 0);
  return matched === 0 ? 0 : removed / matched;
}

/** Returns the survivors of the server's shard, never-pruned elements included. */
async function commit(server: ServerHandle, record: CommitRecord, signal: AbortSignal): Promise<number> {
  const reply = await unary(
    server.client,
    'commitMask',
    {
      generation: record.generation,
      step: record.step,
      maskEpoch: record.maskEpoch,
      selections: (record.selections[server.rank] ?? []).map(selectionToMessage),
      record: JSON.stringify(record),
      restoreFrom: record.restoreFrom ?? '',
    },
    { deadlineMilliseconds: COMMIT_DEADLINE_MS, signal },
  );
  return reply.survivors;
}

function checkpointNameOf({ clock, generation }: Manifest): string {
  return checkpointName(clock, generation);
}

function remoteSource(server: ServerHandle, generation: number, step: number, signal: AbortSignal): SelectionSource {
  return {
    async histogram(query: HistogramQuery): Promise<readonly (readonly number[])[]> {
      const reply = await unary(
        server.client,
        'histogram',
        {
          generation,
          step,
          scoring: query.scoring,
          dead: query.population === 'dead',
          groups: query.groups.map((ranges) => ({ ranges: ranges.map(([start, end]) => ({ start, end })) })),
          prior: query.prior.map(selectionToMessage),
          round: query.round,
          prefixes: [...query.prefixes],
        },
        { deadlineMilliseconds: HISTOGRAM_DEADLINE_MS, signal },
      );
      return reply.groups.map((group) => group.counts);
    },
    async scores({ scoring, range, prior, ofState = false }: ScoresQuery): Promise<ScoresAnswer> {
      const [start, end] = range;
      const reply = await unary(
        server.client,
        'scores',
        { generation, step, scoring, range: { start, end }, prior: prior.map(selectionToMessage), ofState },
        { deadlineMilliseconds: HISTOGRAM_DEADLINE_MS, signal },
      );
      return { alive: reply.alive, scores: new Float32Array(new Uint8Array(reply.scores).buffer) };
    },
  };
}
