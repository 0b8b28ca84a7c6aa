// The packed tarball, as a user gets it: installed into an empty folder on a machine without a
// compiler, used from CommonJS, ES modules, TypeScript and the command line.
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";

const root = join(__dirname, "..");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const supported = process.platform === "linux" && process.arch === "x64";

let folder: string;
let app: string;
let packed: string[];

/** The environment of somebody else: no npm settings, no home, tools that fail. */
function environment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const path = [join(folder, "fake-tools"), dirname(process.execPath), process.env.PATH ?? ""].join(
    delimiter,
  );
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|node_env$)/i.test(name));
  return {
    ...Object.fromEntries(kept),
    PATH: path,
    HOME: join(folder, "home"),
    NODE_OPTIONS: "",
    ...extra,
  };
}

function node(args: string[], extra: Record<string, string> = {}) {
  const result = spawnSync(process.execPath, args, {
    cwd: app,
    env: environment(extra),
    encoding: "utf8",
  });
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

function write(name: string, text: string): string {
  const path = join(app, name);
  writeFileSync(path, text);
  return path;
}

function fakeTools(names: string[]): void {
  mkdirSync(join(folder, "fake-tools"));
  for (const name of names) {
    const path = join(folder, "fake-tools", name);
    writeFileSync(path, `#!/bin/sh\necho ${name} >> ${join(folder, "tools-called")}\nexit 1\n`);
    chmodSync(path, 0o755);
  }
}

const spectrum = `
  const diagonal = (v) => v.map((x, i) => x * [3, -5, 1][i % 3]);
  const A = linearOperator(3, diagonal);
  const top = await eigsh(A, { k: 2, which: "LM" });
  console.log(JSON.stringify([...top.values].map((x) => Math.round(x * 1e6) / 1e6)));
`;

(supported ? describe : describe.skip)("the packed tarball", () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "eigenscope-package-"));
    app = join(folder, "app");
    for (const name of [app, join(folder, "home")]) mkdirSync(name);

    execFileSync("sh", ["scripts/prebuild.sh"], { cwd: root, stdio: "pipe" });
    if (!existsSync(join(root, "dist", "index.js")))
      execFileSync("npm", ["run", "build:ts"], { cwd: root, stdio: "pipe" });

    const list = JSON.parse(
      execFileSync("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder], {
        cwd: root,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      }),
    );
    const [{ filename, files }] = Object.values<{ filename: string; files: { path: string }[] }>(
      list,
    );
    packed = files.map((file) => file.path);

    fakeTools([
      "cc",
      "gcc",
      "c++",
      "g++",
      "clang",
      "make",
      "cmake",
      "ninja",
      "node-gyp",
      "python3",
    ]);
    // Dependencies come from this checkout, so that nothing is downloaded: packed as a registry has
    // them, for which scripts of their authors do not run; as links where they need others.
    const overrides = Object.fromEntries(
      Object.keys(manifest.dependencies).map((name) => {
        const path = join(root, "node_modules", name);
        const own = JSON.parse(readFileSync(join(path, "package.json"), "utf8"));
        if (Object.keys(own.dependencies ?? {}).length > 0) return [name, `file:${path}`];
        const pack = ["pack", path, "--ignore-scripts", "--silent", "--pack-destination", folder];
        const file = execFileSync("npm", pack, { cwd: root, encoding: "utf8" }).trim();
        return [name, `file:${join(folder, file)}`];
      }),
    );
    write(
      "package.json",
      JSON.stringify({
        private: true,
        dependencies: { eigenscope: `file:${join(folder, filename)}` },
        overrides,
      }),
    );
    execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund"], {
      cwd: app,
      env: environment(),
      stdio: "pipe",
    });
  }, 600_000);

  afterAll(() => {
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  test("holds the library, its types, the addon and the licences, and no sources", () => {
    expect(packed).toEqual(
      expect.arrayContaining([
        "LICENSE",
        "README.md",
        "THIRD_PARTY_LICENSES.txt",
        "bin/eigenscope.js",
        "dist/index.d.ts",
        "dist/index.js",
        "package.json",
        "prebuilds/linux-x64/eigenscope.glibc.node",
      ]),
    );
    expect(packed.filter((path) => /^(native|lib|test|scripts|build|binding)/.test(path))).toEqual(
      [],
    );
    const licences = readFileSync(join(app, "node_modules/eigenscope/THIRD_PARTY_LICENSES.txt"));
    for (const name of ["OpenBLAS", "LAPACK", "GCC RUNTIME LIBRARY EXCEPTION", "zlib"])
      expect(licences.toString()).toContain(name);
  });

  test("installs without a compiler", () => {
    expect(existsSync(join(folder, "tools-called"))).toBe(false);
    expect(existsSync(join(app, "node_modules/eigenscope/build"))).toBe(false);
  });

  test("works from CommonJS", () => {
    const file = write(
      "use.cjs",
      `const { eigsh, linearOperator } = require("eigenscope"); (async () => {${spectrum}})();`,
    );
    expect(node([file])).toEqual({ status: 0, stdout: "[-5,3]\n", stderr: "" });
  });

  test("works from ES modules by named imports", () => {
    const file = write(
      "use.mjs",
      `import { eigsh, linearOperator, OptionError, EigenscopeError } from "eigenscope";
       if (!(OptionError.prototype instanceof EigenscopeError)) throw new Error("not one class");
       ${spectrum}`,
    );
    expect(node([file])).toEqual({ status: 0, stdout: "[-5,3]\n", stderr: "" });
  });

  test.each(["cts", "mts"])("has types for TypeScript (.%s)", (extension) => {
    const file = write(
      `use.${extension}`,
      `import { eigsh, type LinearOperator, linearOperator } from "eigenscope";
       const A: LinearOperator = linearOperator(2, (v) => v);
       export const values: Promise<Float64Array> = eigsh(A, { k: 1 }).then((top) => top.values);
       // @ts-expect-error there is no such criterion
       eigsh(A, { which: "XX" });`,
    );
    const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
    const types = join(root, "node_modules", "@types");
    const result = node([
      tsc,
      ...["--noEmit", "--strict", "--module", "node20", "--target", "es2023", "--lib"],
      ...["es2023,esnext.disposable", "--types", "node", "--typeRoots", types, file],
    ]);
    expect(result).toEqual({ status: 0, stdout: "", stderr: "" });
  });

  const command = () => join(app, "node_modules", ".bin", "eigenscope");

  test("has the command", () => {
    const { status, stdout } = node([command(), "--version"]);
    expect(stdout).toContain(manifest.version);
    expect(status).toBe(0);
  });

  // Where oneDNN is not installed both runs take the same way.
  test("computes with oneDNN and without", () => {
    const hide = { EIGENSCOPE_NO_ONEDNN: "1" };
    expect(node([command(), "--version", "--verbose"], hide).stdout).toMatch(/oneDNN +not used/);
    const [seen, hidden] = [{}, hide].map((extra) => {
      const { status, stdout, stderr } = node(
        [
          ...[command(), "spectrum", join(root, "examples/models/lenet.onnx")],
          ...["--inputs", join(root, "examples/data/t10k-2048-images.idx3-ubyte")],
          ...["--targets", join(root, "examples/data/t10k-2048-labels.idx1-ubyte")],
          ...["--scale", "1/255", "--operator", "ggn", "--samples", "256"],
          ...["--k", "1", "--tol", "1e-3", "--json"],
        ],
        extra,
      );
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      return JSON.parse(stdout).values[0] as number;
    });
    expect(seen).toBeGreaterThan(0);
    expect(Math.abs(hidden - seen) / seen).toBeLessThan(1e-5);
  });

  test("says how to build where there is no addon for the platform", () => {
    const prebuilds = join(app, "node_modules", "eigenscope", "prebuilds");
    renameSync(prebuilds, `${prebuilds}-away`);
    try {
      const { status, stderr } = node(["-e", `require("eigenscope").linearOperator(2, (v) => v)`]);
      expect(status).not.toBe(0);
      expect(stderr).toContain("npm run build");
    } finally {
      renameSync(`${prebuilds}-away`, prebuilds);
    }
  });
});
