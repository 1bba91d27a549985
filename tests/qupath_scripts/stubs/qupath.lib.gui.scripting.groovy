package qupath.lib.gui.scripting

import qupath.lib.scripting.QP

class QPEx extends QP {
    /** The window, or null on the command line. */
    static Object getQuPath() { return QP.window }
}
