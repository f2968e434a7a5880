// Package config is what a broker can be told: flags, environment and a YAML file that say the same thing in the same
// words, and the plain [Config] that comes out of them.
//
// [Flags] is the only place where a setting's name, default and help are written. The environment name is STREAMHOUSE_
// and the flag's name in capitals with underscores; the key in the file is the flag's name. A flag wins over the
// environment, that over the file, that over the default; [Resolver] makes it so. [Flags.Resolve] checks everything
// that can be checked without touching the outside, and its errors name the setting and say what to do.
//
// Sizes ([Size]) take binary and decimal units: 8MiB, 64MB, 1GiB, 512k, 1048576. Durations are Go's: 2ms, 250ms, 1h30m.
//
// # Listeners
//
// What a broker binds and what it tells clients to connect to are two things. Clients are told the advertised address
// in Metadata, and reconnect to that; an unspecified one (0.0.0.0, ::) would send each client to itself. So a listener
// that binds every interface either says what to advertise or gets the address of an interface that is up and not a
// loopback; where there is none, starting is refused. See [ParseListener] and [Flags.Resolve].
package config
