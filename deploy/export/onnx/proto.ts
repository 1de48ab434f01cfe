import { join } from 'node:path';
import { loadSync, type MessageTypeDefinition } from '@grpc/proto-loader';
import type { ModelProto, ModelProto__Output } from '../../../protos/generated/onnx/ModelProto.ts';
import { packageRoot } from '../../../shared/package-root.ts';

export const FLOAT32 = 1;
export const INT64 = 7;

const definitions = loadSync('onnx.proto', {
  includeDirs: [join(packageRoot, 'protos')],
  // These match the options of the script `generate`, so that its types are true.
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const model = definitions['onnx.ModelProto'] as MessageTypeDefinition<ModelProto, ModelProto__Output>;

/** The bytes of an .onnx file. */
export function encodeModel(value: ModelProto): Buffer {
  return model.serialize(value);
}

/** Throws what protobufjs does where the bytes are none of a model. */
export function decodeModel(bytes: Buffer): ModelProto__Output {
  return model.deserialize(bytes);
}
