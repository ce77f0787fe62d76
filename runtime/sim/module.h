/* The simulator as a Lua module: `require "holdfast.sim_core"`, on which lua/holdfast/sim.lua builds
 * `require "holdfast.sim"`. The main binary may preload it. */
#ifndef HOLDFAST_SIM_MODULE_H
#define HOLDFAST_SIM_MODULE_H

#include <lua.h>

int luaopen_holdfast_sim_core(lua_State *L);

#endif
