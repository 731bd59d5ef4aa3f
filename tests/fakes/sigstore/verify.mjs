// Verify bundles with the stock JavaScript client, @sigstore/verify, at its default thresholds.
//
// Usage: node verify.mjs < request.json, with {trustedRoot, keys: {hint: base64 DER}, identity, issuer, bundles: [PATH]}.
// Prints {PATH: "ok" | "CODE message"}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { bundleFromJSON } = require("@sigstore/bundle");
const { TrustedRoot } = require("@sigstore/protobuf-specs");
const { Verifier, toSignedEntity, toTrustMaterial } = require("@sigstore/verify");

const request = JSON.parse(readFileSync(0));
const keys = Object.fromEntries(
  Object.entries(request.keys ?? {}).map(([hint, der]) => [
    hint,
    { rawBytes: Buffer.from(der, "base64"), keyDetails: "PKIX_ECDSA_P256_SHA_256", validFor: { start: new Date(0) } },
  ]),
);
const byKey = Object.keys(keys).length > 0;
const material = toTrustMaterial(TrustedRoot.fromJSON(request.trustedRoot), keys);
const verifier = new Verifier(material, byKey ? { tlogThreshold: 0, timestampThreshold: 0 } : {});
const policy = byKey
  ? undefined
  : { subjectAlternativeName: `^${request.identity}$`, extensions: { issuer: request.issuer } };

const found = {};
for (const path of request.bundles) {
  try {
    verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(readFileSync(path)))), policy);
    found[path] = "ok";
  } catch (error) {
    found[path] = `${error.code ?? error.name} ${error.message}`;
  }
}
process.stdout.write(JSON.stringify(found));
