// One side of a comparison: a process that answers one request a line with one line.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export class Side {
  constructor(command, args) {
    // Spinning OpenMP threads make two threads slower than one.
    const env = { ...process.env, OMP_WAIT_POLICY: "passive", KMP_BLOCKTIME: "0" };
    this.child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"], env });
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async next() {
    const { value, done } = await this.lines.next();
    if (done) throw new Error("a side of the comparison ended early");
    return JSON.parse(value);
  }

  async ask(request) {
    this.child.stdin.write(`${JSON.stringify(request)}\n`);
    const answer = await this.next();
    if (answer.error) throw new Error(answer.error);
    return answer;
  }

  end() {
    this.child.stdin.end();
  }
}

export const list = (text) => text.split(",").filter(Boolean);
export const median = (xs) => xs.slice().sort((a, b) => a - b)[xs.length >> 1];
