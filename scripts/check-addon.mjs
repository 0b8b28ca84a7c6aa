// Checks that a prebuilt addon runs on any supported machine: it may need nothing but glibc and
// Node-API (a linker does not mind missing symbols in a shared library), and no symbol newer than the oldest glibc supported; the latter only warns without --release, so that
// a newer system can build for itself. Prints one line an addon.
import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";

const oldestGlibc = "2.35";
const allowed = /^(lib(c|m|mvec|dl|pthread)\.so\.\d+|ld-linux.*\.so\.\d+)$/;

const newer = (a, b) => {
  const [x, y] = [a, b].map((v) => v.split(".").map(Number));
  return x[0] - y[0] || x[1] - y[1];
};

const release = process.argv.includes("--release");

for (const file of process.argv.slice(2).filter((argument) => argument !== "--release")) {
  const dynamic = execFileSync("readelf", ["-dVW", file], { encoding: "utf8" });
  const needed = [...dynamic.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((match) => match[1]);
  const versions = [...dynamic.matchAll(/GLIBC_(\d+\.\d+)/g)].map((match) => match[1]).sort(newer);
  const newest = versions.at(-1) ?? "none";
  const undefinedSymbols = execFileSync("nm", ["-D", "--undefined-only", "-C", file], {
    encoding: "utf8",
  });
  const missing = [...undefinedSymbols.matchAll(/^\s+U (.+)$/gm)]
    .map((match) => match[1])
    .filter((symbol) => !symbol.includes("@") && !symbol.startsWith("napi_"));
  const foreign = needed.filter((library) => !allowed.test(library));
  console.log(
    `${file}: ${(statSync(file).size / 2 ** 20).toFixed(1)} MiB, needs ${needed.join(", ")}, glibc ${newest}`,
  );
  if (foreign.length > 0) {
    console.error(
      `${file} needs ${foreign.join(", ")}, which users may not have; link it statically`,
    );
    process.exitCode = 1;
  }
  if (missing.length > 0) {
    console.error(`${file} lacks ${missing.join(", ")}`);
    process.exitCode = 1;
  }
  if (newest !== "none" && newer(newest, oldestGlibc) > 0) {
    console.error(
      `${file} needs glibc ${newest}; releases promise ${oldestGlibc}. Build on Debian 12 or Ubuntu 22.04.`,
    );
    if (release) process.exitCode = 1;
  }
}
