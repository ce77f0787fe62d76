-- holdfast peer chirp --port 9500 --ca-out ca.pem --option events_every=1000
listen { unix = "holdfast.sock" }
policies { path = "policies" }
connection "bird" {
  policy  = "chirp",
  token   = secret { env = "CHIRP_TOKEN" },
  api     = "https://127.0.0.1:9500",
  ca_file = "ca.pem",
}
