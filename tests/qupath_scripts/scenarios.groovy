/*
 * Runs the scripts of qupath_scripts/ against the stub classes, one scenario after another in one Java machine, and
 * writes what happened as results.json, for the tests to judge. Arguments: folder of the scripts, folder to work in.
 */
import groovy.json.JsonOutput
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.Paths
import qupath.fx.dialogs.FileChoosers
import qupath.lib.color.ColorDeconvolutionStains
import qupath.lib.images.ImageData
import qupath.lib.images.servers.*
import qupath.lib.objects.*
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.*
import qupath.lib.roi.ROI
import qupath.lib.scripting.QP

scripts = Paths.get(args[0])
work = Paths.get(args[1])
results = [:]

/** One scenario: fresh stubs and a folder of its own, which is also that of the project. */
def scenario(String name, Closure prepare, String script, Map<String, String> edits = [:],
             List<String> arguments = null) {
    QP.reset()
    FileChoosers.answer = null
    def folder = Files.createDirectories(work.resolve(name))
    prepare(folder)
    results[name] = runScript(script, edits, arguments) + [calls: QP.calls, folder: folder.toString()] + hierarchyNow()
}

/** A script with some of its lines edited, as a user edits the settings. */
Map runScript(String script, Map<String, String> edits, List<String> arguments) {
    def source = scripts.resolve(script).toFile().getText('UTF-8')
    edits.each { from, to ->
        assert source.contains(from): script + ' has no line with: ' + from
        source = source.replace(from, to)
    }
    def binding = new Binding()
    if (arguments != null)
        binding.setVariable('args', arguments as String[])
    def printed = new StringWriter()
    binding.setProperty('out', new PrintWriter(printed))
    def error = null
    // Every function notes that it ran, so that a test can ask for those that never did.
    source = source.replaceAll(/(?m)^((?:def|void|int|double|boolean|String|Class|Path|List\S*|List<\w+>) (\w+)\([^{]*?\) \{)$/,
                               '$1 qupath.lib.scripting.QP.ran << "' + script + ':$2";')
    try {
        new GroovyShell(getClass().classLoader, binding).evaluate(source, script)
    } catch (Throwable problem) {
        error = problem.class.simpleName + ': ' + problem.message
    }
    return [error: error, printed: printed.toString()]
}

Map hierarchyNow() {
    def objects = QP.imageData?.hierarchy?.all ?: []
    return [objects: objects.collect {
        [kind: it.kind, name: it.name, class: it.pathClass?.toString(), measurements: it.measurements,
         bounds: [it.ROI.boundsX, it.ROI.boundsY, it.ROI.boundsWidth, it.ROI.boundsHeight]]
    }, image_type: QP.imageData?.imageType?.name(), stains: QP.imageData?.colorDeconvolutionStains?.name]
}

// ------------------------------------------------ pieces of scenarios

/** An open image of 5000 x 4000 px with pixels that are not square, in a project unless told otherwise. */
ImageData open(Path folder, Map with = [:]) {
    def calibration = new PixelCalibration(0.25d, 0.2268d, with.get('calibrated', true))
    def server = with.server ?: new ImageServer()
    server.with {
        width = 5000
        height = 4000
        pixelCalibration = calibration
        rgb = with.get('rgb', true)
        uri = 'file:/D:/slides/A01%20HE.ndpi'
        metadata.name = 'A01 HE.ndpi'
    }
    QP.imageData = new ImageData(server: server)
    if (with.get('project', true)) {
        QP.project = new Project(path: folder.resolve('project.qpproj'))
        QP.entry = new ProjectImageEntry(imageName: with.get('name', 'A01 HE.ndpi'))
        QP.watched = folder.resolve('histomri_export')
    }
    return QP.imageData
}

PathObject annotation(double x, double y, double w, double h, String name, String pathClass = null) {
    def object = new PathObject('annotation', new ROI(x, y, w, h))
    object.name = name
    object.pathClass = pathClass == null ? null : PathClass.fromString(pathClass)
    object.id = UUID.nameUUIDFromBytes(name.bytes)
    QP.imageData.hierarchy.addObjects([object])
    return object
}

PathObject add(PathObject object, PathObject parent, String id, String pathClass = null) {
    object.parent = parent
    object.id = UUID.nameUUIDFromBytes(id.bytes)
    object.pathClass = pathClass == null ? null : PathClass.fromString(pathClass)
    QP.imageData.hierarchy.addObjects([object])
    return object
}

/** The image of the export tests: cells inside, at the edge of and outside an annotation, and things to leave out. */
void cellsToExport(Path folder, Map with = [:]) {
    def image = open(folder, with)
    image.imageType = ImageData.ImageType.BRIGHTFIELD_H_DAB
    image.colorDeconvolutionStains = new ColorDeconvolutionStains(name: 'H-DAB default')
    image.server.metadata.magnification = with.get('magnification', 40.0d)
    QP.currentHierarchy.selectionModel.setSelectedObjects([annotation(1000, 1000, 2000, 1500, 'biopsy 1')], null)
    def region = QP.annotationObjects[0]
    QP.runPlugin('qupath.imagej.detect.cells.WatershedCellDetection',
                 '{"requestedPixelSizeMicrons": 0.5, "includeNuclei": true, ' +
                 '"detectionImageBrightfield": "Hematoxylin OD"}')
    image.hierarchy.removeObjects(QP.detectionObjects as List, false)
    QP.calls.clear()
    def inside = add(new PathCellObject(new ROI(1234.56789012345d, 1100.1d, 41.3d, 39.7d),
                                        new ROI(1240, 1110, 16, 15)), region, 'inside', 'Tumor: Positive')
    inside.measurementList.put('Nucleus: DAB OD mean', 0.387104123456789d)
    def edge = add(new PathCellObject(new ROI(1000, 1200, 40, 40), null), region, 'edge', 'a\t"b"')
    edge.measurementList.put('Nucleus: DAB: Mean', 1.0e-5d)
    def root = QP.currentHierarchy.rootObject
    add(new PathCellObject(new ROI(4000, 3000, 40, 40), new ROI(4010, 3010, 20, 20)), root, 'free')
    add(new PathCellObject(new ROI(4980, 3000, 30, 20), null), root, 'rim')
    add(new PathObject('detection', new ROI(1245, 1112, 3, 3)), inside, 'spot')
    add(new PathObject('tile', new ROI(0, 0, 500, 500)), root, 'tile')
}

void tilesFile(Path path, List<Map> tiles, String kind = 'tile') {
    def features = tiles.collect { tile ->
        def (x, y, size) = tile.at
        [type: 'Feature', geometry: [type: 'Polygon', coordinates: [[[x, y], [x + size, y], [x + size, y + size],
            [x, y + size], [x, y]]]], properties: [objectType: kind, measurements: tile.values]]
    }
    Files.createDirectories(path.parent)
    def bytes = JsonOutput.toJson([type: 'FeatureCollection', features: features]).getBytes('UTF-8')
    if (path.toString().endsWith('.gz')) {
        def packed = new ByteArrayOutputStream()
        new java.util.zip.GZIPOutputStream(packed).withCloseable { it.write(bytes) }
        bytes = packed.toByteArray()
    }
    Files.write(path, bytes)
}

// ------------------------------------------------ detection

he = 'detect_cells_he.groovy'
ki67 = 'detect_cells_ki67.groovy'

for (script in [he, ki67]) {
    def stain = script == he ? 'he' : 'ki67'
    scenario(stain + '-selected', { folder ->
        open(folder)
        annotation(100, 100, 500, 500, 'left')
        def right = annotation(1000, 100, 500, 500, 'right')
        QP.currentHierarchy.selectionModel.setSelectedObjects([right], null)
    }, script)
    scenario(stain + '-all-annotations', { folder ->
        open(folder)
        annotation(100, 100, 500, 500, 'left')
        annotation(1000, 100, 500, 500, 'right')
    }, script)
    scenario(stain + '-tissue', { folder ->
        open(folder)
        QP.tissue = [new PathObject('annotation', new ROI(50, 60, 700, 800)).tap { it.name = 'found' }]
    }, script)
    scenario(stain + '-no-tissue', { folder -> open(folder) }, script)
    scenario(stain + '-uncalibrated', { folder ->
        open(folder, [calibrated: false])
        annotation(100, 100, 500, 500, 'left')
    }, script)
    scenario(stain + '-plugin-false', { folder ->
        open(folder)
        annotation(100, 100, 500, 500, 'left')
        QP.detectorFails = true
    }, script)
    scenario(stain + '-unknown-key', { folder ->
        open(folder)
        annotation(100, 100, 500, 500, 'left')
    }, script, ['includeNuclei             : true': 'includeNucleus : true'])
    scenario(stain + '-gstring', { folder ->
        open(folder)
        annotation(100, 100, 500, 500, 'left')
    }, script, ["'Hematoxylin OD'": '"${\'Hematoxylin\'} OD"'])
}
scenario('he-no-image', { folder -> }, he)
scenario('he-fluorescence', { folder -> open(folder, [rgb: false]) }, he)
scenario('he-wrong-stain', { folder ->
    open(folder).imageType = ImageData.ImageType.BRIGHTFIELD_H_DAB
    annotation(100, 100, 500, 500, 'left')
}, he)
scenario('he-change-stain', { folder ->
    open(folder).imageType = ImageData.ImageType.BRIGHTFIELD_H_DAB
    annotation(100, 100, 500, 500, 'left')
}, he, ['changeImageType  : false': 'changeImageType  : true',
        'stains           : null': 'stains: \'{"Name" : "Our scanner"}\''])
scenario('he-keeps-stains', { folder ->
    def image = open(folder)
    image.imageType = ImageData.ImageType.BRIGHTFIELD_H_E
    image.colorDeconvolutionStains = new ColorDeconvolutionStains(name: 'estimated')
    annotation(100, 100, 500, 500, 'left')
}, he)
scenario('he-overlap', { folder ->
    open(folder)
    annotation(100, 100, 500, 500, 'tissue')
    annotation(200, 200, 50, 50, 'tumour', 'Tumor')
}, he)
scenario('he-one-class', { folder ->
    open(folder)
    annotation(100, 100, 500, 500, 'tissue')
    annotation(200, 200, 50, 50, 'tumour', 'Tumor')
}, he, ['regionClass      : null': "regionClass      : 'Tumor'"])
scenario('he-touching', { folder ->
    open(folder)
    annotation(100, 100, 500, 500, 'left')
    annotation(600, 100, 500, 500, 'right')
}, he)

// ------------------------------------------------ detectors of extensions, old versions, tissue microarrays

stardist = 'detect_cells_stardist.groovy'
instanseg = 'detect_cells_instanseg.groovy'
def modelFile = Files.createDirectories(work.resolve('models')).resolve('he_heavy_augment.pb')
Files.writeString(modelFile, 'a model')
def withModel = ["modelPath                 : null": "modelPath : '" + modelFile + "'"]
def dabToo = withModel + ["stain            : 'he'": "stain : 'dab'"]

/** A microarray of three cores, one of them missing, and no annotation. */
void microarray(Path folder) {
    open(folder)
    QP.cores = [new TMACoreObject(new ROI(100, 100, 400, 400), 'A-1'), new TMACoreObject(new ROI(600, 100, 400, 400), 'A-2'),
                new TMACoreObject(new ROI(1100, 100, 400, 400), 'A-3', true)]
    QP.currentHierarchy.all.addAll(QP.cores)
}

for (script in [stardist, instanseg]) {
    def name = script == stardist ? 'stardist' : 'instanseg'
    scenario(name + '-he', { folder ->
        open(folder)
        annotation(100, 100, 500, 500, 'left')
        annotation(1000, 100, 500, 500, 'right')
    }, script, withModel)
    scenario(name + '-dab', { folder ->
        def image = open(folder)
        image.colorDeconvolutionStains = new ColorDeconvolutionStains(name: 'H-DAB default')
        annotation(100, 100, 500, 500, 'left')
    }, script, dabToo)
    scenario(name + '-no-measurements', { folder ->
        def image = open(folder)
        image.colorDeconvolutionStains = new ColorDeconvolutionStains(name: 'H-DAB default')
        annotation(100, 100, 500, 500, 'left')
    }, script, dabToo + ['makeMeasurements          : true': 'makeMeasurements : false'])
    scenario(name + '-no-model', { folder ->
        open(folder)
        annotation(100, 100, 500, 500, 'left')
    }, script)
    scenario(name + '-lost-model', { folder -> open(folder) }, script,
             ["modelPath                 : null": "modelPath : '/nowhere/model.pb'"])
    scenario(name + '-not-installed', { folder -> open(folder) }, script,
             withModel + ["extension('qupath.ext.": "extension('qupath.absent."])
    scenario(name + '-tma', { folder -> microarray(folder) }, script, withModel)
    scenario(name + '-export', { folder ->
        microarray(folder)
        runScript(script, withModel, null)
        QP.calls.clear()
    }, 'export_for_histomri.groovy')
}
scenario('he-tma', { folder -> microarray(folder) }, he)
for (script in [he, ki67, stardist, instanseg, 'export_for_histomri.groovy', 'show_histomri_results.groovy'])
    scenario('old-' + script, { folder ->
        open(folder)
        annotation(100, 100, 500, 500, 'left')
        QP.version = '0.4.4'
    }, script, script in [stardist, instanseg] ? withModel : [:])

// ------------------------------------------------ export

export = 'export_for_histomri.groovy'

scenario('export', { folder -> cellsToExport(folder) }, export)
scenario('export-classes', { folder ->
    cellsToExport(folder)
    QP.annotationObjects[0].pathClass = PathClass.fromString('Tumor')
}, export)
scenario('export-gz', { folder ->
    cellsToExport(folder)
    Files.createDirectories(QP.watched)
    Files.writeString(QP.watched.resolve('A01 HE.cells.tsv'), 'of an earlier run')
}, export, ['compress           : false': 'compress           : true'])
scenario('export-args', { folder -> cellsToExport(folder, [project: false]) }, export, [:],
         [work.resolve('elsewhere/deep').toString()])
scenario('export-no-project', { folder -> cellsToExport(folder, [project: false]) }, export)
scenario('export-uncalibrated', { folder -> cellsToExport(folder, [calibrated: false]) }, export)
scenario('export-disk-full', { folder ->
    cellsToExport(folder)
    Files.createDirectories(QP.watched)
    Files.writeString(QP.watched.resolve('A01 HE.histomri.json'),
                      '{"image_name": "A01 HE.ndpi", "image_uri": "file:/D:/slides/A01%20HE.ndpi", "complete": true}')
    Files.writeString(QP.watched.resolve('A01 HE.annotations.geojson'), 'the old ones')
    QP.exportFails = true
}, export)
scenario('export-other-image', { folder ->
    cellsToExport(folder)
    Files.createDirectories(QP.watched)
    Files.writeString(QP.watched.resolve('A01 HE.histomri.json'), '{"image_name": "A01 HE.svs", "complete": true}')
}, export)
scenario('export-damaged-sidecar', { folder ->
    cellsToExport(folder)
    Files.createDirectories(QP.watched)
    Files.writeString(QP.watched.resolve('A01 HE.histomri.json'), '{"image_name": "A0')
}, export)
scenario('export-odd-name', { folder -> cellsToExport(folder, [name: 'case 7/8: "left".svs']) }, export)
scenario('export-masked', { folder ->
    cellsToExport(folder, [magnification: Double.NaN])
    QP.project.maskImageNames = true
}, export)
scenario('export-openslide-cropped', { folder ->
    cellsToExport(folder, [server: new OpenslideImageServer(fullWidth: 90000, fullHeight: 80000)])
}, export)
scenario('export-openslide-whole', { folder ->
    cellsToExport(folder, [server: new OpenslideImageServer(fullWidth: 5000, fullHeight: 4000)])
}, export)
scenario('export-bioformats', { folder -> cellsToExport(folder, [server: new BioFormatsImageServer()]) }, export)
scenario('export-rotated', { folder ->
    cellsToExport(folder)
    QP.imageData.server.builder.description = [builderType: 'rotated', builder: [builderType: 'uri']]
}, export)
scenario('export-empty', { folder -> open(folder) }, export)
def nuclei = { folder ->
    open(folder)
    add(new PathObject('detection', new ROI(10, 20, 8, 6)), QP.currentHierarchy.rootObject, 'nucleus')
}
scenario('export-nuclei', nuclei, export)
scenario('export-nuclei-as-cells', nuclei, export, ["detectionsAre      : 'nucleus'": "detectionsAre: 'cell'"])
scenario('export-cells-only', nuclei, export, ["objects            : 'auto'": "objects: 'cells'"])
scenario('export-misspelt', nuclei, export, ["objects            : 'auto'": "objects: 'cell'"])

// ------------------------------------------------ results

show = 'show_histomri_results.groovy'
def maps = [
    [at: [0, 0, 400], values: ['vCS_mri_um': 21.5, 'F_mri': 0.61, 'CD_histo_mm2': 2500.0, 'vCS': 12.25, 'K': 0.5]],
    [at: [400, 0, 400], values: ['vCS_mri_um': 'NaN', 'F_mri': 0.4, 'My own map': 7]],
    [at: [800, 0, 400], values: ['vCS_mri_um': 'NaN']],
]

scenario('show-project', { folder ->
    open(folder)
    tilesFile(folder.resolve('histomri_results/A01 HE_mri.geojson'), maps)
    tilesFile(folder.resolve('histomri_results/A01 HE.geojson.gz'), [maps[0]])
    tilesFile(folder.resolve('histomri_results/A01 HE2.geojson'), [maps[0]])
}, show)
scenario('show-again', { folder ->
    open(folder)
    def region = annotation(100, 100, 500, 500, 'left')
    add(new PathCellObject(new ROI(110, 110, 30, 30), null), region, 'cell')
    add(new PathObject('tile', new ROI(0, 0, 9, 9)), region, 'mine').name = 'histomri: other'
    add(new PathObject('tile', new ROI(0, 0, 9, 9)), region, 'old').name = 'histomri: A01 HE_mri'
    add(new PathObject('tile', new ROI(0, 0, 9, 9)), region, 'superpixel')
    tilesFile(folder.resolve('histomri_results/A01 HE_mri.geojson'), maps)
}, show)
scenario('show-remove', { folder ->
    open(folder)
    add(new PathObject('tile', new ROI(0, 0, 9, 9)), null, 'old').name = 'histomri: A01 HE_mri'
    add(new PathObject('tile', new ROI(0, 0, 9, 9)), null, 'superpixel')
}, show, ['removeOnly    : false': 'removeOnly    : true'])
scenario('show-args', { folder ->
    open(folder, [project: false])
    tilesFile(folder.resolve('mine.geojson'), maps, 'detection')
}, show, ['skipEmptyTiles: true': 'skipEmptyTiles: false'], [work.resolve('show-args/mine.geojson').toString()])
// What `histomri qupath-grid` wrote; conftest.py puts it there.
scenario('show-own', { folder ->
    open(folder)
}, show, [:], [work.resolve('own/A01 HE.geojson').toString()])
scenario('show-asked', { folder ->
    open(folder)
    QP.window = 'QuPath'
    tilesFile(folder.resolve('picked.json'), [maps[0]], 'annotation')
    FileChoosers.answer = folder.resolve('picked.json').toFile()
}, show)
scenario('show-asked-cancelled', { folder ->
    open(folder)
    QP.window = 'QuPath'
}, show)
scenario('show-headless-none', { folder -> open(folder) }, show)
scenario('show-missing', { folder -> open(folder) }, show, [:], ['/nowhere/at all.geojson'])
scenario('show-other-image', { folder ->
    open(folder)
    tilesFile(folder.resolve('histomri_results/A01 HE.geojson'), [[at: [90000, 0, 400], values: [vCS: 1.0]]])
}, show)
scenario('show-mostly-outside', { folder ->
    open(folder)
    tilesFile(folder.resolve('histomri_results/A01 HE.geojson'),
              [0, 9000, 18000].collect { [at: [it, 0, 400], values: [vCS: 1.0]] })
}, show)
scenario('show-background', { folder ->
    open(folder)
    tilesFile(folder.resolve('histomri_results/A01 HE.geojson'), [maps[2]])
}, show)
scenario('show-broken', { folder ->
    open(folder)
    def file = folder.resolve('histomri_results/A01 HE.geojson')
    tilesFile(file, maps)
    def text = Files.readString(file)
    Files.writeString(file, text.substring(0, (int) (text.length() / 2)))
    add(new PathObject('tile', new ROI(0, 0, 9, 9)), null, 'old').name = 'histomri: A01 HE'
}, show)

// ------------------------------------------------ the test itself must notice mistakes

scenario('bad-syntax', { folder -> open(folder) }, he,
         ['detectCells(settings, detection)\n\n': 'detectCells(settings, detection\n\n'])
scenario('bad-call', { folder -> open(folder) }, show, ['getCurrentImageData()': 'getCurrentImage()'])

results['functions'] = [calls: [], ran: QP.ran as List]
work.resolve('results.json').toFile().setText(JsonOutput.toJson(results), 'UTF-8')
