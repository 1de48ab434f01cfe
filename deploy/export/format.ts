import type { Manifest } from '../../shared/checkpoint/manifest.ts';

/**
 * One kind of export: writes the model's files into an empty folder, loads them the way their users will, compares
 * every tensor bit by bit with the checkpoint, and answers the files' names. Errors: DISK, UNSUPPORTED.
 */
export type ExportFormat = (folder: string, source: ExportSource) => Promise<string[]>;

export interface ExportSource {
  /** The checkpoint's folder, verified. */
  readonly folder: string;
  readonly manifest: Manifest;
  /** Facts for the file's own metadata. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Takes what the user should know of how it went. */
  readonly note: (message: string) => void;
}
