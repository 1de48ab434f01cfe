import { distance } from 'fastest-levenshtein';

/** What other trainers call the same thing. */
const ALIASES: Readonly<Record<string, string>> = {
  lr: 'learningRate',
  targetsparsity: 'finalSparsity',
  batch: 'batchSize',
  wd: 'weightDecay',
  eps: 'epsilon',
  alpha: 'rho',
  maxsteps: 'steps',
  numepochs: 'epochs',
  dataset: 'data',
  beta: 'beta1',
  exponent: 'power',
  pruning: 'sparsity',
  gradientclipping: 'clipNorm',
  fp32: 'float32',
  fp16: 'float16',
  bf16: 'bfloat16',
};

/** The candidate a typing error was probably meant to be; undefined where none is near. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const plain = simplify(word);
  const alias = ALIASES[plain];
  if (alias !== undefined && candidates.includes(alias)) return alias;
  // `end` for endStep, `gpu` for tensorflow-gpu.
  const containing = plain.length < 3 ? [] : candidates.filter((candidate) => simplify(candidate).includes(plain));
  if (containing.length === 1) return containing[0];
  const ranked = rank(word, candidates)[0];
  return ranked !== undefined && isSlip(plain, simplify(ranked)) ? ranked : undefined;
}

/** A slip of the fingers and not another word: one edit, or up to one in three letters (three at most) after the first. */
function isSlip(word: string, candidate: string): boolean {
  const edits = distance(word, candidate);
  const most = Math.min(3, Math.ceil(Math.max(word.length, candidate.length) / 3));
  return edits <= 1 || (edits <= most && word[0] === candidate[0]);
}

/** Candidates by ascending distance from the word. */
export function rank(word: string, candidates: readonly string[]): string[] {
  const plain = simplify(word);
  return [...candidates]
    .map((candidate, index) => ({ candidate, index, far: distance(plain, simplify(candidate)) }))
    .sort((a, b) => a.far - b.far || a.index - b.index)
    .map(({ candidate }) => candidate);
}

/** `final_sparsity`, `final-sparsity` and `FinalSparsity` are all the same word. */
function simplify(word: string): string {
  return word.toLowerCase().replace(/[_\-\s]/g, '');
}
