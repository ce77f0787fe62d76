/* modules: sim top trace peer deliver bind policy store frame crypto engine base */
/* `require "unit.sim"`: the simulator as a Lua module; see lua/holdfast/sim.lua. */
#include "sim/module.h"

int luaopen_unit_sim(lua_State *L);
int luaopen_unit_sim(lua_State *L)
{
    return luaopen_holdfast_sim_core(L);
}
