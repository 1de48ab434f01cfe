import type { Criterion } from './criterion.ts';
import { absolutes } from './magnitude.ts';

/** Keeps a parameter of zeros from 0/0. */
const EPSILON = 1e-8;

/**
 * |w| / (||w||_2 + 1e-8), the norm over the parameter's survivors: a global ranking then compares weights within
 * their layers' scales and does not empty the layer with the smallest (JaxPruner's GlobalPruningMixin, NNCF).
 */
export const normalizedMagnitude: Criterion = {
  name: 'normalizedMagnitude',
  needs: 'weights',
  scores: ({ weights }) => absolutes(weights),
  normalize(scores) {
    let squares = 0;
    for (const score of scores) squares += score * score;
    const norm = Math.sqrt(squares) + EPSILON;
    return scores.map((score) => score / norm);
  },
};
