import type { ParameterServerClient } from '../../protos/generated/whittle/ParameterServer.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { unary } from '../../shared/rpc/client.ts';
import { selectionToMessage } from '../../shared/rpc/selection-messages.ts';
import { planMaskUpdate, type RuleReport } from '../../shared/sparsity/mask-update.ts';
import { matchedParameters } from '../../shared/sparsity/rules.ts';
import { failpoint, failpointAfterSend } from '../../shared/telemetry/failpoints.ts';
import type {
  HistogramQuery,
  ScoresAnswer,
  ScoresQuery,
  Selection,
  SelectionSource,
} from '../../shared/sparsity/selection.ts';
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
}

export interface CommittedUpdate extends CommitRecord {
  /** Dead elements over all elements that any rule matches, from the servers' mask bits. */
  readonly sparsity: number;
}

/**
 * Decides and commits one mask update while all servers hold at `step`.
 * Guarantee: histograms are read-only and repeatable, the record is a function of the held weights and the run
 * file alone, and applying it twice is applying it once; so this may be repeated from the start at any point.
 */
export async function updateMask(options: {
  readonly generation: number;
  readonly step: number;
  readonly maskEpoch: number;
  readonly config: RunConfig;
  readonly space: ParameterSpace;
  readonly begun: ParameterSpace;
  readonly units: ModelUnits;
  readonly cuts: readonly number[];
  readonly servers: readonly ServerHandle[];
  /** Hears of the record before any server is sent it. */
  readonly onDecided?: (record: CommitRecord) => void;
  readonly signal: AbortSignal;
}): Promise<CommittedUpdate> {
  const { generation, step, config, space, servers, signal } = options;
  const plan = await planMaskUpdate({
    rules: config.sparsity,
    space,
    begun: options.begun,
    units: options.units,
    step,
    seed: config.seed,
    cuts: options.cuts,
    sources: servers.map((server) => remoteSource(server, generation, step, signal)),
  });
  const { selections, reports } = plan;
  const record = { generation, step, maskEpoch: options.maskEpoch, selections, reports };
  options.onDecided?.(record);
  failpoint('commit.decided', step);
  return commitMask(record, options);
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
    },
    { deadlineMilliseconds: COMMIT_DEADLINE_MS, signal },
  );
  return reply.survivors;
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
    async scores({ scoring, range, prior }: ScoresQuery): Promise<ScoresAnswer> {
      const [start, end] = range;
      const reply = await unary(
        server.client,
        'scores',
        { generation, step, scoring, range: { start, end }, prior: prior.map(selectionToMessage) },
        { deadlineMilliseconds: HISTOGRAM_DEADLINE_MS, signal },
      );
      return { alive: reply.alive, scores: new Float32Array(new Uint8Array(reply.scores).buffer) };
    },
  };
}
