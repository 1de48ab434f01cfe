import type { ChannelOptions } from '@grpc/grpc-js';

/** Largest chunk of a body in one frame. */
export const CHUNK_BYTES = 1 << 20;

/** Largest gRPC message either side sends or takes: 4 MiB and room for headers. Bulk goes in chunks of 1 MiB. */
export const MAX_MESSAGE_BYTES = (4 << 20) + (64 << 10);

/** Of channels and servers alike. */
export const transportOptions: ChannelOptions = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  // Finds a peer whose machine vanished. Slow on purpose: a process short of CPU answers late.
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.enable_channelz': 0,
};
