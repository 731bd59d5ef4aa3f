// A private Sigstore on loopback: the npm package @sigstore/mock behind HTTP, as sigstore-python speaks to it.
//
// Usage: node server.mjs FOLDER. Writes FOLDER/client_trust_config.json when it listens, and ends with its stdin.
// What the mock has otherwise than the services that it stands for is translated here: where the token is, how a
// request for a certificate is encoded, and what a log makes of a proposed entry.
import { createHash } from "node:crypto";
import { writeFileSync, renameSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { fulcioHandler, initializeCA, initializeCTLog, initializeTLog, rekorHandler } = require("@sigstore/mock");
const { generateKeyPair } = require("@sigstore/mock/dist/util/key.js");

const folder = process.argv[2];
const started = new Date(Date.now() - 60_000).toISOString();
const sha256 = (data, encoding) => createHash("sha256").update(data).digest(encoding);

const keys = { ca: generateKeyPair("prime256v1"), ctlog: generateKeyPair("prime256v1"), tlog: generateKeyPair("prime256v1") };
const ctlog = await initializeCTLog(keys.ctlog);
const ca = await initializeCA(keys.ca, ctlog);

function certificateRequest(headers, body) {
  const request = JSON.parse(body);
  const token = (headers.authorization ?? "").replace(/^Bearer /, "");
  return JSON.stringify({
    credentials: { oidcIdentityToken: token },
    certificateSigningRequest: Buffer.from(request.certificateSigningRequest, "base64").toString(),
  });
}

// What Rekor logs of a proposed DSSE envelope: hashes, signature and verifier, and not the envelope.
function canonicalEntry(body) {
  const { apiVersion, kind, spec } = JSON.parse(body);
  if (kind !== "dsse") return body; // what is signed without an envelope is logged as it was proposed
  const { envelope, verifiers } = spec.proposedContent;
  const { payload, signatures } = JSON.parse(envelope);
  return JSON.stringify({
    apiVersion,
    kind,
    spec: {
      envelopeHash: { algorithm: "sha256", value: sha256(envelope, "hex") },
      payloadHash: { algorithm: "sha256", value: sha256(Buffer.from(payload, "base64"), "hex") },
      signatures: [{ signature: signatures[0].sig, verifier: verifiers[0] }],
    },
  });
}

function trustedRoot(url) {
  const log = (publicKey) => ({
    baseUrl: url,
    hashAlgorithm: "SHA2_256",
    publicKey: {
      rawBytes: publicKey.toString("base64"),
      keyDetails: "PKIX_ECDSA_P256_SHA_256",
      validFor: { start: started },
    },
    logId: { keyId: sha256(publicKey, "base64") },
  });
  return {
    mediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    tlogs: [log(tlog.publicKey)],
    certificateAuthorities: [
      {
        subject: { organization: "sigstore.mock", commonName: "sigstore" },
        uri: url,
        certChain: { certificates: [{ rawBytes: ca.rootCertificate.toString("base64") }] },
        validFor: { start: started },
      },
    ],
    ctlogs: [log(ctlog.publicKey)],
    timestampAuthorities: [],
  };
}

function clientTrustConfig(url) {
  const service = { url, majorApiVersion: 1, validFor: { start: started }, operator: "sigstore.mock" };
  return {
    mediaType: "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
    trustedRoot: trustedRoot(url),
    signingConfig: {
      mediaType: "application/vnd.dev.sigstore.signingconfig.v0.2+json",
      caUrls: [service],
      oidcUrls: [service],
      rekorTlogUrls: [service],
      rekorTlogConfig: { selector: "ANY" },
      tsaUrls: [],
      tsaConfig: { selector: "ANY" },
    },
  };
}

let tlog, fulcio, rekor;
const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", async () => {
    const body = Buffer.concat(chunks).toString();
    let answer = { statusCode: 404, response: "no such service" };
    if (request.method === "POST" && request.url === fulcio.path) {
      answer = await fulcio.fn(certificateRequest(request.headers, body));
    } else if (request.method === "POST" && request.url.replace(/\/$/, "") === rekor.path) {
      answer = await rekor.fn(canonicalEntry(body));
    }
    response.writeHead(answer.statusCode, { "Content-Type": answer.contentType ?? "text/plain" });
    response.end(answer.response);
  });
});

server.listen(0, "127.0.0.1", async () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  tlog = await initializeTLog(url, keys.tlog);
  fulcio = fulcioHandler(ca);
  rekor = rekorHandler(tlog);
  const path = `${folder}/client_trust_config.json`;
  writeFileSync(`${path}.new`, JSON.stringify(clientTrustConfig(url)));
  renameSync(`${path}.new`, path);
});
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
