import { Metadata, status } from '@grpc/grpc-js';
import type {
  CallOptions,
  ChannelCredentials,
  ChannelOptions,
  Client,
  ClientOptions,
  ClientUnaryCall,
  requestCallback,
} from '@grpc/grpc-js';
import type { ParameterServerClient } from '../../protos/generated/whittle/ParameterServer.ts';
import type { SchedulerClient } from '../../protos/generated/whittle/Scheduler.ts';
import { channelCredentials, channelNames, currentCredentials, tokenOptions } from './credentials.ts';
import type { RunCredentials } from './credentials.ts';
import { interrupted } from './deadline.ts';
import { FrameStream } from './frame-stream.ts';
import type { FrameStreamOptions } from './frame-stream.ts';
import { transportOptions } from './options.ts';
import { Health, ParameterServer, Scheduler } from './proto.ts';
import type { HealthClient } from './proto.ts';
import { fromStatus } from './rpc-errors.ts';
import { clientWindowOptions } from './windows.ts';

const channelOptions: ChannelOptions = {
  ...transportOptions,
  ...clientWindowOptions,
  // A proxy named in the environment is for the web, not for the roles of a run; but for partitions made on purpose.
  'grpc.enable_http_proxy': process.env['WHITTLE_FAULT_PROXY'] === '1' ? 1 : 0,
  // A connection a client: closing the client closes it, and bulk does not share a window with control.
  'grpc.use_local_subchannel_pool': 1,
  // Calls are repeated by those who know that they may be; also spares a copy of what was sent.
  'grpc.enable_retries': 0,
  // Roles start in any order.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
};

/**
 * `address`: `host:port`. Nothing is connected before the first call. End with `client.close()`. `credentials` are by
 * default those of the process, see `useCredentials`.
 */
export function schedulerClient(address: string, credentials?: RunCredentials): SchedulerClient {
  return new Scheduler(...clientArguments(address, credentials));
}

export function parameterServerClient(address: string, credentials?: RunCredentials): ParameterServerClient {
  return new ParameterServer(...clientArguments(address, credentials));
}

export function healthClient(address: string, credentials?: RunCredentials): HealthClient {
  return new Health(...clientArguments(address, credentials));
}

function clientArguments(
  address: string,
  credentials: RunCredentials = currentCredentials(),
): [string, ChannelCredentials, ClientOptions] {
  const names = credentials.certificates === null ? {} : channelNames(address);
  const options = { ...channelOptions, ...names, ...tokenOptions(credentials) };
  return [address, channelCredentials(credentials, address), options];
}

/** The address that a client was made for. */
export function addressOf(client: Client): string {
  return client
    .getChannel()
    .getTarget()
    .replace(/^dns:(\/\/\/?)?/, '');
}

/** The worker's side of an Exchange stream. */
export function openExchange(client: ParameterServerClient, options: FrameStreamOptions): FrameStream {
  return new FrameStream(client.exchange(), options);
}

type Unary<Request, Reply> = (argument: Request, callback: requestCallback<Reply>) => ClientUnaryCall;

/** Names of a client's unary methods. */
export type UnaryMethod<C> = {
  [K in keyof C]: C[K] extends Unary<infer _Request, infer _Reply> ? K : never;
}[keyof C] &
  string;
export type UnaryRequest<C, M extends keyof C> = C[M] extends Unary<infer Request, infer _Reply> ? Request : never;
export type UnaryReply<C, M extends keyof C> = C[M] extends Unary<infer _Request, infer Reply> ? Reply : never;

export interface UnaryOptions {
  readonly deadlineMilliseconds: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Calls a unary method. Errors name the method and the address: DEADLINE and ROLE_LOST (retryable; the
 * latter at once when nobody listens there), PROTOCOL, INTERRUPTED when `signal` aborts, and whatever
 * code the other side's handler threw.
 */
export function unary<C extends Client, M extends UnaryMethod<C>>(
  client: C,
  method: M,
  request: UnaryRequest<C, M>,
  options: UnaryOptions,
): Promise<UnaryReply<C, M>> {
  const { deadlineMilliseconds, signal } = options;
  const what = `${method} at ${addressOf(client)}`;
  if (signal?.aborted === true) return Promise.reject(interrupted(signal, what));
  return new Promise<UnaryReply<C, M>>((resolve, reject) => {
    const onAbort = (): void => call.cancel();
    const callOptions: CallOptions = { deadline: Date.now() + deadlineMilliseconds };
    const call = (client as unknown as FullClient<C, M>)[method](
      request,
      new Metadata(),
      callOptions,
      (error, reply) => {
        signal?.removeEventListener('abort', onAbort);
        if (error === null) resolve(reply as UnaryReply<C, M>);
        else if (error.code === status.CANCELLED && signal?.aborted === true) reject(interrupted(signal, what));
        else if (error.code === status.DEADLINE_EXCEEDED) {
          reject(fromStatus({ code: error.code, details: `no answer in ${deadlineMilliseconds / 1000} s` }, what));
        } else reject(fromStatus(error, what));
      },
    );
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

type FullClient<C, M extends UnaryMethod<C>> = Record<
  M,
  (
    request: UnaryRequest<C, M>,
    metadata: Metadata,
    options: CallOptions,
    callback: requestCallback<UnaryReply<C, M>>,
  ) => ClientUnaryCall
>;
