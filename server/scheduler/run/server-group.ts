import { WhittleError } from '../../../shared/errors.ts';
import type { ModelDescription } from '../../../shared/layout/model-description.ts';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { cutEvenly } from '../../../shared/layout/shard-map.ts';
import { type ModelUnits, unitGroupsOf } from '../../../shared/model-graph/unit-groups.ts';
import { retry } from '../../../shared/rpc/deadline.ts';
import { checkModel } from '../../../shared/sparsity/plan/check-model.ts';
import type { Member } from '../members.ts';
import type { ServerHandle } from '../pruning-controller.ts';
import { configureServers, connectServers } from '../shards.ts';
import { Signal } from '../signal.ts';
import { waitFor } from './gathering.ts';
import type { RunOptions } from './run-options.ts';

const CONFIGURE_MS = 120_000;
export const INITIAL_MS = 120_000;

export type ServerGroupOptions = Pick<RunOptions, 'config' | 'generation' | 'members' | 'progress' | 'restored'> & {
  readonly signal: AbortSignal;
};

/** What mask updates need, known once the servers are. */
export interface Ground {
  readonly space: ParameterSpace;
  /** Of the model that the run began with: what shares are of. */
  readonly begun: ParameterSpace;
  readonly units: ModelUnits;
  readonly cuts: readonly number[];
  readonly servers: readonly ServerHandle[];
}

/** The servers of a generation and the shards between them. */
export class ServerGroup {
  readonly #options: ServerGroupOptions;
  readonly #ready = new Set<number>();
  readonly #allReady = new Signal<void>();
  #handles: readonly ServerHandle[] = [];
  #cuts: readonly number[] = [];
  /** Who sends the initial values; its loss before they are complete begins the run anew. */
  #initialSender: Member | null = null;

  constructor(options: ServerGroupOptions) {
    this.#options = options;
  }

  /** Lays the model out over the servers and connects to them. */
  connect(model: ModelDescription): Ground {
    const { config, members, progress } = this.#options;
    const space = ParameterSpace.of(model.parameters);
    const begun = model.shrunkFrom === undefined ? space : ParameterSpace.begunWith(model);
    // What is only right for whole axes is over when units leave; see checkShrink.
    const units = model.shrunkFrom === undefined ? checkModel(config.sparsity, model, space) : unitGroupsOf(model);
    this.#cuts = cutEvenly(space.size, config.cluster.servers);
    progress.setModel(begun);
    this.#handles = connectServers(members.of('server'));
    return { space, begun, units, cuts: this.#cuts, servers: this.#handles };
  }

  close(): void {
    for (const server of this.#handles) server.client.close();
  }

  /** Gives every server its shard, of the checkpoint or with the initial values of `workers`' first. */
  async configure(description: ModelDescription, workers: () => readonly Member[]): Promise<void> {
    const { generation, config, restored, signal } = this.#options;
    const options = { generation, cuts: this.#cuts, description, config, restored };
    await retry(
      (deadlineMilliseconds) => configureServers(this.#handles, { ...options, deadlineMilliseconds, signal }),
      { deadlineMilliseconds: CONFIGURE_MS, what: 'all servers to take their shards', signal },
    );
    if (!restored) this.#sendInitial(workers()[0]);
    const what = (): string => 'all servers to have their initial values';
    await waitFor(this.#allReady, { milliseconds: INITIAL_MS, what, signal });
  }

  /** The initial values are safe. */
  initialized(): void {
    this.#initialSender = null;
  }

  ready(rank: number): void {
    this.#ready.add(rank);
    if (this.#ready.size === this.#options.config.cluster.servers) this.#allReady.set();
  }

  /** Whether the state of this generation is lost with the member. */
  isLostWith(member: Member): boolean {
    if (member === this.#initialSender) return true;
    return member.role === 'server' && (this.#cuts.length > 0 || this.#ready.has(member.rank));
  }

  /** Where workers find the shards. */
  get layout(): { generation: number; cuts: number[]; servers: string[] } {
    const servers = this.#handles.map((server) => server.address);
    return { generation: this.#options.generation, cuts: [...this.#cuts], servers };
  }

  #sendInitial(worker: Member | undefined): void {
    if (!worker) throw new WhittleError('ROLE_LOST', 'no worker is left to send the initial values');
    this.#initialSender = worker;
    this.#options.members.send(worker, { sendInitial: this.layout });
  }
}
