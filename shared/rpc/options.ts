import type { ChannelOptions } from '@grpc/grpc-js';

/** Largest chunk of a body in one frame. */
export const CHUNK_BYTES = 1 << 20;

/** Largest gRPC message either side sends or takes: 4 MiB and room for headers. Bulk goes in chunks of 1 MiB. */
export const MAX_MESSAGE_BYTES = (4 << 20) + (64 << 10);

/** From the last sign of life to a ping, and from the ping to the end of the connection. */
export const KEEPALIVE_MILLISECONDS = 10_000;

/** Of channels and servers alike. */
export const transportOptions: ChannelOptions = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  // Finds a peer whose machine vanished, within 20 s on both sides. Not faster: a process short of CPU answers late.
  'grpc.keepalive_time_ms': KEEPALIVE_MILLISECONDS,
  'grpc.keepalive_timeout_ms': KEEPALIVE_MILLISECONDS,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.enable_channelz': 0,
};

/** Bounds of a role's server. A run has at most 1024 servers and 1024 workers, each with a connection or two. */
export const SERVER_LIMITS = {
  /** Connections at once, those that have shown the run's token and those that have not. */
  connections: 4096,
  strangers: 512,
  strangerMilliseconds: 10_000,
  /** Streams of one connection; more wait at the caller. */
  streamsPerConnection: 64,
  openCalls: 8192,
  firstMessageMilliseconds: 10_000,
  stallMilliseconds: 60_000,
} as const;
