/**
 * Globs over parameter names. `*` stands for any characters, none included, and crosses `/` (so does `**`,
 * which means the same); `?` stands for one character; everything else for itself.
 *
 * `*` crosses `/` because nested models put further segments before a layer's name: a rule that covers
 * `dense_1/kernel` by its last part must not silently stop covering it as `block/dense_1/kernel`.
 */
export function matchesGlob(pattern: string, name: string): boolean {
  let inPattern = 0;
  let inName = 0;
  let star = -1;
  let resumeAt = 0;
  while (inName < name.length) {
    const wanted = pattern[inPattern];
    if (wanted === '*') {
      star = inPattern++;
      resumeAt = inName;
    } else if (wanted === '?' || wanted === name[inName]) {
      inPattern++;
      inName++;
    } else if (star >= 0) {
      // Let the last star take one character more. Earlier stars never need to: linear space, no blow-up.
      inPattern = star + 1;
      inName = ++resumeAt;
    } else {
      return false;
    }
  }
  while (pattern[inPattern] === '*') inPattern++;
  return inPattern === pattern.length;
}
