import { open } from 'node:fs/promises';
import { StringDecoder } from 'node:string_decoder';

/** Reads the lines that are appended to a file, each once. */
export class LineTail {
  readonly path: string;
  #offset: number;
  #rest = '';
  #decoder = new StringDecoder('utf8');

  /** Starts at a byte offset, which must be the begin of a line. */
  constructor(path: string, offset = 0) {
    this.path = path;
    this.#offset = offset;
  }

  /** The whole lines that came since the last call. A file that does not exist has none; one that was cut starts again. */
  async read(): Promise<string[]> {
    const file = await open(this.path, 'r').catch(() => null);
    if (file === null) return [];
    try {
      const { size } = await file.stat();
      if (size < this.#offset) {
        this.#offset = 0;
        this.#rest = '';
        this.#decoder = new StringDecoder('utf8');
      }
      const pieces = [this.#rest];
      const buffer = Buffer.alloc(1 << 16);
      for (;;) {
        const { bytesRead } = await file.read(buffer, 0, buffer.length, this.#offset);
        if (bytesRead === 0) break;
        this.#offset += bytesRead;
        pieces.push(this.#decoder.write(buffer.subarray(0, bytesRead)));
      }
      const lines = pieces.join('').split('\n');
      this.#rest = lines.pop() ?? '';
      return lines;
    } finally {
      await file.close();
    }
  }
}
