import { setLogVerbosity, logVerbosity, loadPackageDefinition, makeClientConstructor } from '@grpc/grpc-js';
import type { CallOptions, Client, ClientUnaryCall, GrpcObject, requestCallback } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { service as healthServiceDefinition } from 'grpc-health-check';
import { join } from 'node:path';
import type { ProtoGrpcType as ParameterServerTypes } from '../../protos/generated/parameter-server.ts';
import type { ProtoGrpcType as SchedulerTypes } from '../../protos/generated/scheduler.ts';
import type { Frame } from '../../protos/generated/whittle/Frame.ts';
import { packageRoot } from '../package-root.ts';

// grpc-js writes its own lines to stderr beside the errors that it reports to us.
if (process.env['GRPC_VERBOSITY'] === undefined) setLogVerbosity(logVerbosity.NONE);

const definitions = loadSync(['scheduler.proto', 'parameter-server.proto'], {
  includeDirs: [join(packageRoot, 'protos')],
  // These match the options of the script `generate`, so that its types are true.
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});

type Loaded = SchedulerTypes['whittle'] & ParameterServerTypes['whittle'];
const loaded = loadPackageDefinition(definitions)['whittle'] as GrpcObject as unknown as Loaded;

/** Client constructor and, as `.service`, the definition of the scheduler's service. */
export const Scheduler: Loaded['Scheduler'] = loaded.Scheduler;

/** Client constructor and, as `.service`, the definition of a parameter server's service. */
export const ParameterServer: Loaded['ParameterServer'] = loaded.ParameterServer;

export interface HealthClient extends Client {
  /** `service` '' asks for the process as a whole. Status: SERVING, NOT_SERVING. */
  check(
    argument: { readonly service: string },
    options: CallOptions,
    callback: requestCallback<{ status: string }>,
  ): ClientUnaryCall;
  check(argument: { readonly service: string }, callback: requestCallback<{ status: string }>): ClientUnaryCall;
}

/** Client constructor of grpc.health.v1.Health, which every role's server answers. */
export const Health = makeClientConstructor(healthServiceDefinition, 'Health') as unknown as new (
  ...args: ConstructorParameters<typeof Client>
) => HealthClient;

/** Bytes of a frame's protobuf encoding. Its chunk is not copied where there is none. */
export function encodedFrameBytes(frame: Frame): number {
  return ParameterServer.service.Exchange.requestSerialize(frame).length;
}
