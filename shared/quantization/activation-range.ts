/** Ranges of activations are scalars among a model's non-trainable states, named after the layer. */
const SUFFIX = '/activation_range';

export function activationRangeName(layer: string): string {
  return layer + SUFFIX;
}

export function isActivationRange(state: { readonly name: string }): boolean {
  return state.name.endsWith(SUFFIX);
}
