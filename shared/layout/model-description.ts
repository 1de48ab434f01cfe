/** What a worker tells the others about its model: everything they need, and no tensors. Travels as JSON. */
export interface ModelDescription {
  /** Trainable parameters in model order. */
  readonly parameters: readonly ParameterSpec[];
  /** Non-trainable variables that a training forward pass writes (moving averages), in model order. */
  readonly states: readonly { readonly name: string; readonly shape: readonly number[] }[];
  /**
   * The tensors of the model that the user's files build, where units have left it since; absent: none has. Names and
   * order are those of `parameters` and `states`.
   */
  readonly shrunkFrom?: Pick<ModelDescription, 'parameters' | 'states'>;
  /** LayersModel topology as TensorFlow.js writes it to model.json (`modelTopology`). */
  readonly topology: unknown;
  /** Layers of the model in order, for reports: canonical name, TensorFlow.js class name, output shape. */
  readonly layers: readonly {
    readonly name: string;
    readonly className: string;
    readonly outputShape: readonly (number | null)[];
  }[];
  /** What is minimised, in words or as a hash of the user's code; only to be compared. Absent in older checkpoints. */
  readonly loss?: string;
  readonly trainExamples: number;
  /** 0 where the data has no test part. */
  readonly testExamples: number;
  /** Things the user should know (an overridden dropout seed, say). */
  readonly notes: readonly string[];
}

/** One named trainable tensor. */
export interface ParameterSpec {
  /** `<layer>/<weight>`, such as `dense_1/kernel`; the same in every process. */
  readonly name: string;
  readonly shape: readonly number[];
  /** TensorFlow.js class name of its layer, such as `Dense`. */
  readonly layerKind: string;
  /** True for kernels of dense and convolution layers: what a sparsity rule without `match` covers. */
  readonly prunable: boolean;
}
