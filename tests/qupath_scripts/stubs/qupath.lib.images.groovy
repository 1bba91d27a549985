package qupath.lib.images

import qupath.lib.color.ColorDeconvolutionStains
import qupath.lib.images.servers.ImageServer
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.plugins.workflow.Workflow

class ImageData {
    static enum ImageType { BRIGHTFIELD_H_DAB, BRIGHTFIELD_H_E, BRIGHTFIELD_OTHER, FLUORESCENCE, OTHER, UNSET }

    ImageServer server
    ImageType imageType = ImageType.UNSET
    ColorDeconvolutionStains colorDeconvolutionStains
    final PathObjectHierarchy hierarchy = new PathObjectHierarchy()
    final Workflow historyWorkflow = new Workflow()
}
